// The layout of the graph: positions of boxes and points of edges.

import { Graph, layout } from "../vendor/dagre.esm.js";

const MANY = 150; // boxes: above this, the best ranking takes seconds

export function placed(nodes, edges) {
  const graph = new Graph();
  graph.setGraph({ rankdir: "LR", nodesep: 14, ranksep: 46, edgesep: 8, ranker: nodes.length > MANY ? "longest-path" : "network-simplex" });
  graph.setDefaultEdgeLabel(() => ({}));
  nodes.forEach(({ width, height }, number) => graph.setNode(String(number), { width, height }));
  for (const { from, to } of edges) graph.setEdge(String(from), String(to), {});
  layout(graph);
  const { width, height } = graph.graph();
  return {
    width: Math.max(width, 1),
    height: Math.max(height, 1),
    places: nodes.map((_, number) => graph.node(String(number))).map(({ x, y }) => ({ x, y })),
    ways: edges.map(({ from, to }) => graph.edge(String(from), String(to)).points),
  };
}
