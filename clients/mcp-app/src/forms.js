// Forms of JSON Schemas, for the inputs of flows and the answers to questions.

import { make } from "./dom.js";

const INPUT_TYPES = { email: "email", uri: "url", date: "date" };
const LONG = ["prompt", "requirement", "body", "text", "content", "description"];

/** Returns the fields of a schema, and what reads their values. Without properties it is one field for JSON. */
export function fieldsOf(schema) {
  const rules = Object.entries(schema?.properties ?? {});
  if (!rules.length) {
    const all = jsonField("Inputs as JSON", false, {}, {});
    return { elements: [all.element], read: () => all.read() ?? {} };
  }
  const fields = rules.map(([name, rule]) => [name, fieldOf(name, rule, (schema.required ?? []).includes(name))]);
  return {
    elements: fields.map(([, field]) => field.element),
    read: () => Object.fromEntries(fields.map(([name, field]) => [name, field.read()]).filter(([, value]) => value !== undefined)),
  };
}

function fieldOf(name, rule, isRequired) {
  const title = rule.title ?? name;
  const type = [rule.type].flat().find((each) => each !== "null");
  if (Array.isArray(rule.enum)) return choice(title, isRequired, rule);
  if (type === "boolean") return flag(title, rule);
  if (type === "string") return text(name, title, isRequired, rule);
  if (type === "number" || type === "integer") return number(title, isRequired, rule, type);
  return jsonField(title, isRequired, rule, rule.default);
}

function labelled(title, isRequired, rule, control) {
  control.required = isRequired;
  const hint = rule.description ? [make("span", { className: "muted small", textContent: rule.description })] : [];
  return make("label", {}, make("span", { textContent: isRequired ? `${title} *` : title }), control, ...hint);
}

function choice(title, isRequired, { enum: values, default: preset, ...rule }) {
  const control = make("select");
  control.append(make("option", { value: "", textContent: "" }));
  values.forEach((value, number) => {
    const shown = typeof value === "string" ? value : JSON.stringify(value);
    control.append(make("option", { value: String(number), textContent: shown, selected: value === preset }));
  });
  const read = () => (control.value === "" ? undefined : values[Number(control.value)]);
  return { element: labelled(title, isRequired, rule, control), read };
}

function flag(title, rule) {
  const control = make("input", { type: "checkbox", checked: rule.default === true });
  const element = labelled(title, false, rule, control);
  element.className = "flag";
  element.prepend(control);
  return { element, read: () => control.checked };
}

function text(name, title, isRequired, rule) {
  const isLong = LONG.includes(name) && !rule.writeOnly;
  const type = rule.writeOnly ? "password" : (INPUT_TYPES[rule.format] ?? "text");
  const control = isLong ? make("textarea") : make("input", { type, autocomplete: "off" });
  control.value = rule.default ?? "";
  if (rule.maxLength !== undefined) control.maxLength = rule.maxLength;
  if (rule.format === "date-time") control.placeholder = "2027-01-31T09:00:00+01:00";
  return { element: labelled(title, isRequired, rule, control), read: () => control.value || undefined };
}

function number(title, isRequired, rule, type) {
  const control = make("input", { type: "number", step: type === "integer" ? "1" : "any" });
  control.value = rule.default ?? "";
  if (rule.minimum !== undefined) control.min = rule.minimum;
  if (rule.maximum !== undefined) control.max = rule.maximum;
  return { element: labelled(title, isRequired, rule, control), read: () => (control.value ? control.valueAsNumber : undefined) };
}

function jsonField(title, isRequired, rule, preset) {
  const control = make("textarea", { className: "json", spellcheck: false });
  control.value = preset === undefined ? "" : JSON.stringify(preset, null, 2);
  control.addEventListener("input", () => control.setCustomValidity(isJson(control.value) ? "" : "This is not JSON."));
  return { element: labelled(title, isRequired, rule, control), read: () => (control.value.trim() ? JSON.parse(control.value) : undefined) };
}

function isJson(written) {
  try {
    JSON.parse(written.trim() || "null");
    return true;
  } catch {
    return false;
  }
}
