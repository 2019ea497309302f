// A small host of MCP apps: the official client and bridge, and a frame that may load nothing.

import { AppBridge, PostMessageTransport, getToolUiResourceUri } from "@modelcontextprotocol/ext-apps/app-bridge";
import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";

const POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; form-action 'none'; base-uri 'none'";
const APPS = { "io.modelcontextprotocol/ui": { mimeTypes: ["text/html;profile=mcp-app"] } };
const THEMES = {
  light: { "--color-background-primary": "#fffdf7", "--color-text-primary": "#1b1a17", "--font-sans": "Georgia, serif" },
  dark: { "--color-background-primary": "#10151c", "--color-text-primary": "#e9eef5", "--font-sans": "Georgia, serif" },
};
const info = { name: "test-host", version: "1" };
const client = new Client(info, { capabilities: { extensions: APPS } });
let tools, bridge;

window.host = {
  links: [],
  context: [],
  /** Connects to a server, and returns the tools that its model may call. */
  async connect(url) {
    await client.connect(new StreamableHTTPClientTransport(new URL(url)));
    ({ tools } = await client.listTools());
    return tools.filter((tool) => tool._meta?.ui?.visibility?.includes("model") ?? true).map((tool) => tool.name);
  },
  /** Calls a tool as the model does, shows its app, and returns the result that the model gets. */
  async call(name, given, theme) {
    const uri = getToolUiResourceUri(tools.find((tool) => tool.name === name));
    const { contents } = await client.readResource({ uri });
    const frame = document.createElement("iframe");
    frame.sandbox = "allow-scripts";
    document.body.replaceChildren(frame);
    bridge = new AppBridge(client, info, { openLinks: {}, serverTools: {}, updateModelContext: { text: {} } }, {
      hostContext: { theme, styles: { variables: THEMES[theme] }, displayMode: "inline" },
    });
    bridge.onopenlink = async ({ url }) => (window.host.links.push(url), {});
    bridge.onupdatemodelcontext = async ({ content }) => (window.host.context.push(content[0].text), {});
    bridge.onsizechange = ({ height }) => (frame.style.height = `${height}px`);
    const isReady = new Promise((resolve) => (bridge.oninitialized = resolve));
    await bridge.connect(new PostMessageTransport(frame.contentWindow, frame.contentWindow));
    frame.srcdoc = contents[0].text.replace("<head>", `<head><meta http-equiv="Content-Security-Policy" content="${POLICY}">`);
    await isReady;
    await bridge.sendToolInput({ arguments: given });
    const result = await client.callTool({ name, arguments: given });
    await bridge.sendToolResult(result);
    return result;
  },
  /** Changes the theme while the app is shown. */
  theme: (theme) => bridge.setHostContext({ theme, styles: { variables: THEMES[theme] }, displayMode: "inline" }),
};
