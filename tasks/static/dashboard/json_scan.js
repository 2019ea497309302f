// Reads JSON as far as it is right: its tokens, the place of its first fault, and where each value begins.

const TOKEN = /\s+|"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null|[{}[\],:]/y;
const WORDS = {
  value: "a value",
  "value or end": "a value or ]",
  key: "a name in double quotes",
  "key or end": "a name in double quotes or }",
  colon: "a colon",
  end: "nothing more",
};

// `places` has the offsets of values by path, such as `tasks[0].inputs.url`, where `root` is the name of the whole.
export function scan(text, root = "tasks") {
  const tokens = [];
  const places = new Map();
  const stack = [];
  let expects = "value";
  let at = 0;
  const path = () => root + stack.map(({ isList, index, key }) => (isList ? `[${index}]` : `.${key}`)).join("");
  const afterValue = () => (stack.length ? "comma or end" : "end");
  const fault = (offset, message) => ({ tokens, places, fault: { at: offset, message } });

  // Returns the kind of the token, or null if it does not belong here.
  function take(token, start) {
    const frame = stack.at(-1);
    const isValue = expects.startsWith("value");
    if (token === "{" || token === "[") {
      if (!isValue) return null;
      places.set(path(), start);
      stack.push({ isList: token === "[", index: 0, key: "" });
      expects = token === "[" ? "value or end" : "key or end";
    } else if (token === "}" || token === "]") {
      if (!frame || frame.isList !== (token === "]") || !expects.endsWith("or end")) return null;
      stack.pop();
      expects = afterValue();
    } else if (token === ",") {
      if (expects !== "comma or end") return null;
      frame.index += 1;
      expects = frame.isList ? "value" : "key";
    } else if (token === ":") {
      if (expects !== "colon") return null;
      expects = "value";
    } else if (token[0] === '"' && expects.startsWith("key")) {
      frame.key = JSON.parse(token);
      expects = "colon";
      return "key";
    } else {
      if (!isValue) return null;
      places.set(path(), start);
      expects = afterValue();
      return token[0] === '"' ? "string" : /[-\d]/.test(token[0]) ? "number" : "boolean";
    }
    return "punctuation";
  }

  while (at < text.length) {
    TOKEN.lastIndex = at;
    const token = TOKEN.exec(text)?.[0];
    if (token === undefined) return fault(at, text[at] === '"' ? "This text does not end, or has a character that needs a backslash" : `Unexpected ${text[at]}`);
    if (token.trim()) {
      const kind = take(token, at);
      if (!kind) return fault(at, `Expected ${wordsFor(expects, stack.at(-1))}`);
      tokens.push({ kind, start: at, end: at + token.length });
    }
    at += token.length;
  }
  return expects === "end" ? { tokens, places, fault: null } : fault(at, `The text ends too early: expected ${wordsFor(expects, stack.at(-1))}`);
}

function wordsFor(expects, frame) {
  return WORDS[expects] ?? `a comma or ${frame.isList ? "]" : "}"}`;
}
