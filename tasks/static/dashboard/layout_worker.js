// Large graphs are laid out beside the page, which stays awake meanwhile.

import { placed } from "./layout.js";

onmessage = ({ data: { nodes, edges } }) => postMessage(placed(nodes, edges));
