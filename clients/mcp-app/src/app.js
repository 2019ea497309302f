// The app: a run with its tasks, questions and result, or the form of a flow. All data comes from tools, through the host.

import { App, applyDocumentTheme, applyHostStyleVariables } from "@modelcontextprotocol/ext-apps";
import { duration, isOver, make, markOf, size, wordsOf } from "./dom.js";
import { fieldsOf } from "./forms.js";

const WAIT_SECONDS = 25;
const LONGEST_PAUSE_MS = 30_000;
const MOST_FOR_MODEL = 4_000; // characters
const MOST_SHOWN = 100_000;
const MOST_FILES = 50;
const page = document.getElementById("app");
const app = new App({ name: "aipartnerupflow", version: "1.0.0" });
let current = null; // the run that is shown

/** Returns the data of a tool. Throws Refused with the words of the server if the tool refuses. */
async function call(name, given) {
  const result = await app.callServerTool({ name, arguments: given });
  if (result.isError && result.structuredContent?.run_id === undefined) throw new Refused(textOf(result));
  return result.structuredContent;
}

class Refused extends Error {}

const textOf = (result) => result.content?.find((block) => block.type === "text")?.text ?? "The server gave no reason.";

function show(...elements) {
  page.replaceChildren(...elements);
  page.ariaBusy = "false";
}

// --- a run ---

class RunView {
  constructor(runId) {
    current = this;
    this.runId = runId;
    this.state = null;
    this.rows = new Map();
    this.forms = new Map();
    this.title = make("h1");
    this.status = make("span", { className: "status" });
    this.numbers = make("span", { className: "muted" });
    this.stop = make("button", { type: "button", className: "push", textContent: "Cancel", hidden: true, onclick: () => this.cancel() });
    this.progress = make("progress", { ariaLabel: "Tasks that are done" });
    this.questions = make("section", { className: "result" });
    this.tasks = make("ol", { className: "tasks", tabIndex: 0, ariaLabel: "Tasks" });
    this.more = make("p", { className: "muted small", hidden: true });
    this.result = make("section", { className: "result" });
    this.notice = make("p", { className: "error" });
    this.notice.setAttribute("role", "alert");
    this.status.setAttribute("role", "status");
    const header = make("header", {}, this.title, this.status, this.numbers, this.stop);
    show(header, this.progress, this.questions, this.tasks, this.more, this.result, this.notice);
  }

  /** Shows the run until it is over, or another one is shown. A connection that breaks is tried again. */
  async follow() {
    const clock = setInterval(() => this.state && this.showTimes(), 1000);
    let [pause, isFirst] = [1000, true];
    while (current === this && !isOver(this.state?.status)) {
      try {
        const wait = isFirst ? 0 : WAIT_SECONDS;
        this.update(await call("watch_run", { run_id: this.runId, after: this.state?.seq ?? 0, wait_seconds: wait }));
        [pause, isFirst] = [1000, false];
        this.notice.textContent = "";
      } catch (error) {
        this.notice.textContent = error.message;
        if (error instanceof Refused) break;
        await new Promise((resolve) => setTimeout(resolve, pause));
        pause = Math.min(2 * pause, LONGEST_PAUSE_MS);
      }
    }
    clearInterval(clock);
    if (current === this && isOver(this.state?.status)) await this.report();
  }

  update(state) {
    this.state = state;
    const over = isOver(state.status);
    this.title.textContent = state.name;
    this.status.textContent = state.questions.length && !over ? "waits for an answer" : wordsOf(state.status);
    this.status.dataset.status = state.status;
    this.progress.dataset.status = state.status;
    this.progress.max = Math.max(1, state.total);
    this.progress.value = state.done;
    this.stop.hidden = over;
    this.showTasks();
    this.showTimes();
    this.showQuestions();
    if (over) this.showResult();
  }

  showTasks() {
    const depths = new Map();
    const rows = this.state.tasks.map((task) => {
      const depth = depths.has(task.parent_id) ? Math.min(8, depths.get(task.parent_id) + 1) : 0;
      depths.set(task.id, depth);
      const row = this.rows.get(task.id) ?? newRow(task);
      this.rows.set(task.id, row);
      row.element.dataset.status = task.status;
      row.element.style.setProperty("--depth", depth);
      row.mark.textContent = markOf(task.status);
      row.words.textContent = `${wordsOf(task.status)}: `;
      row.error.textContent = task.error ?? "";
      row.error.hidden = !task.error;
      return row.element;
    });
    if (rows.length !== this.tasks.children.length || rows.some((row, at) => this.tasks.children[at] !== row)) {
      this.tasks.replaceChildren(...rows);
    }
    const left = this.state.total - this.state.tasks.length;
    this.more.hidden = left <= 0;
    this.more.textContent = `${left.toLocaleString("en")} further tasks are on the page of the tree.`;
  }

  showTimes() {
    const { state } = this;
    const started = Date.parse(state.started_at);
    const now = state.finished_at ? Date.parse(state.finished_at) : Date.now();
    const span = Math.max(1, now - started);
    const lasted = Number.isNaN(started) ? "" : ` · ${duration(span)}`;
    this.numbers.textContent = `${state.done.toLocaleString("en")} of ${state.total.toLocaleString("en")} tasks${lasted}`;
    for (const task of state.tasks) {
      const row = this.rows.get(task.id);
      const [from, to] = [Date.parse(task.started_at), task.completed_at ? Date.parse(task.completed_at) : now];
      const hasRun = !Number.isNaN(from) && !Number.isNaN(started);
      row.bar.hidden = !hasRun;
      row.time.textContent = hasRun ? duration(to - from) : "";
      if (!hasRun) continue;
      const left = Math.min(99, Math.max(0, (100 * (from - started)) / span));
      row.bar.style.left = `${left}%`;
      row.bar.style.width = `${Math.min(100 - left, (100 * Math.max(0, to - from)) / span)}%`;
    }
  }

  showQuestions() {
    const open = isOver(this.state.status) ? [] : this.state.questions;
    for (const [id, form] of this.forms) {
      if (open.some((question) => question.id === id)) continue;
      form.remove();
      this.forms.delete(id);
    }
    for (const question of open) {
      if (this.forms.has(question.id)) continue;
      const form = questionForm(question);
      this.forms.set(question.id, form);
      this.questions.append(form);
    }
  }

  showResult() {
    const { state } = this;
    const files = filesIn(state.result).slice(0, MOST_FILES);
    const parts = state.error ? [make("p", { className: "error", textContent: state.error })] : [];
    if (files.length) parts.push(make("div", { className: "files" }, ...files.map((file) => this.fileLink(file))));
    if (state.result !== null) parts.push(make("pre", { tabIndex: 0, textContent: shortened(asText(state.result), MOST_SHOWN) }));
    this.result.replaceChildren(...(parts.length ? [make("h2", { textContent: "Result" }), ...parts] : []));
  }

  fileLink(file) {
    const open = async () => {
      try {
        const { url } = await call("link_file", { file_id: file.$file });
        const { isError } = await app.openLink({ url });
        this.notice.textContent = isError ? `The host did not open ${url}` : "";
      } catch (error) {
        this.notice.textContent = error.message;
      }
    };
    const about = typeof file.bytes === "number" ? ` · ${size(file.bytes)}` : "";
    return make("button", { type: "button", textContent: `${file.name ?? "file"}${about}`, onclick: open });
  }

  async cancel() {
    this.stop.disabled = true;
    try {
      await call("cancel_run", { run_id: this.runId });
    } catch (error) {
      this.notice.textContent = error.message;
    }
    this.stop.disabled = false;
  }

  /** Gives the model the end of the run with the next message of the user. */
  async report() {
    if (!app.getHostCapabilities()?.updateModelContext) return;
    const { state } = this;
    const said = state.error ?? asText(state.result);
    const text = `The run ${state.run_id} of ${state.name} is ${state.status}: ${shortened(said, MOST_FOR_MODEL)}`;
    await app.updateModelContext({ content: [{ type: "text", text }] });
  }
}

function newRow(task) {
  const parts = {
    mark: make("span", { className: "mark", ariaHidden: "true" }),
    words: make("span", { className: "hidden" }),
    bar: make("i"),
    time: make("span", { className: "time small" }),
    error: make("p", { className: "error small" }),
  };
  const name = make("b", { textContent: task.name, title: task.name });
  const executor = task.executor && task.executor !== task.name ? [make("span", { className: "muted small", textContent: task.executor })] : [];
  const track = make("span", { className: "track", ariaHidden: "true" }, parts.bar);
  const element = make("li", {}, make("span", { className: "name" }, parts.mark, parts.words, name, ...executor), track, parts.time, parts.error);
  return { element, ...parts };
}

/** Returns the files that a result names. */
function filesIn(value) {
  if (typeof value !== "object" || value === null) return [];
  if (typeof value.$file === "string") return [value];
  return Object.values(value).flatMap(filesIn);
}

const shortened = (written, most) => (written.length > most ? `${written.slice(0, most)}…` : written);
const asText = (value) => (typeof value === "string" ? value : JSON.stringify(value, null, 2));

// --- forms ---

/** Returns a form whose actions are sent one at a time. A refusal is shown in it. Hosts may forbid to submit forms, so buttons act. */
function formOf(parts, actions) {
  const problem = make("p", { className: "error" });
  problem.setAttribute("role", "alert");
  const form = make("form", {}, ...parts);
  const buttons = actions.map(({ label, send }, at) => {
    const act = async () => {
      if (!form.reportValidity()) return;
      for (const button of buttons) button.disabled = true;
      problem.textContent = "";
      try {
        await send();
      } catch (error) {
        problem.textContent = error.message;
        for (const button of buttons) button.disabled = false;
      }
    };
    return make("button", { type: "button", className: at === 0 ? "main" : "", textContent: label, onclick: act });
  });
  form.append(make("div", { className: "actions" }, ...buttons), problem);
  form.onsubmit = (event) => {
    event.preventDefault();
    buttons[0].click();
  };
  return form;
}

function questionForm(question) {
  const title = make("h2", { textContent: question.text });
  const answer = (value, comment) =>
    call("answer_question", { task_id: question.task_id, answer: value, ...(comment ? { comment } : {}) });
  if (question.schema) {
    const fields = fieldsOf(question.schema);
    return formOf([title, ...fields.elements], [{ label: "Answer", send: () => answer(fields.read()) }]);
  }
  const written = question.options ? make("input", { autocomplete: "off" }) : make("textarea", { required: true });
  const label = make("label", {}, make("span", { textContent: question.options ? "Comment" : "Answer" }), written);
  if (!question.options) return formOf([title, label], [{ label: "Answer", send: () => answer(written.value) }]);
  const actions = question.options.map((option) => ({ label: option, send: () => answer(option, written.value.trim()) }));
  return formOf([title, label], actions);
}

function showFlow({ flow, version, description, inputs_schema: schema }) {
  const fields = fieldsOf(schema);
  const run = async () => {
    const { run_id: runId } = await call("run_flow", { name: flow, version, inputs: fields.read() });
    void new RunView(runId).follow();
  };
  const about = description ? [make("p", { className: "muted", textContent: description })] : [];
  const form = formOf([...about, ...fields.elements], [{ label: "Run", send: run }]);
  show(make("header", {}, make("h1", { textContent: flow }), make("span", { className: "muted", textContent: `version ${version}` })), form);
}

// --- the host ---

function follow(context) {
  if (context?.theme) applyDocumentTheme(context.theme);
  if (context?.styles?.variables) applyHostStyleVariables(context.styles.variables);
}

app.ontoolinput = () => show(make("p", { className: "muted", textContent: "Starting…" }));
app.ontoolcancelled = ({ reason }) => show(make("p", { className: "muted", textContent: reason ?? "The call was cancelled." }));
app.ontoolresult = (result) => {
  const data = result.structuredContent;
  if (data?.run_id) void new RunView(data.run_id).follow();
  else if (data?.flow) showFlow(data);
  else show(make("p", { className: "error", textContent: textOf(result) }));
};
app.onhostcontextchanged = follow;
app.onteardown = () => {
  current = null;
  return {};
};
void app.connect().then(() => follow(app.getHostContext()));
