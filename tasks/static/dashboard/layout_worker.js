// Lays out large graphs in a worker, so that the page stays responsive.

import { placed } from "./layout.js";

onmessage = ({ data: { nodes, edges } }) => postMessage(placed(nodes, edges));
