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
  const turned = isUpsideDown(nodes.map((_, number) => graph.node(String(number)))) ? ({ x, y }) => ({ x, y: height - y }) : ({ x, y }) => ({ x, y });
  const place = inOrder(nodes, edges, (number) => turned(graph.node(String(number))).y);
  return {
    width: Math.max(width, 1),
    height: Math.max(height, 1),
    places: nodes.map((_, number) => graph.node(String(place[number]))).map(turned),
    ways: edges.map(({ from, to }) => graph.edge(String(place[from]), String(place[to])).points.map(turned)),
  };
}

// Whether later boxes are above earlier ones, among those of the same column.
function isUpsideDown(places) {
  const columns = new Map();
  places.forEach(({ x, y }, number) => columns.has(x) ? columns.get(x).push({ y, number }) : columns.set(x, [{ y, number }]));
  let sum = 0;
  for (const column of columns.values()) {
    const [middle, center] = ["number", "y"].map((name) => column.reduce((all, each) => all + each[name], 0) / column.length);
    for (const { y, number } of column) sum += (number - middle) * (y - center);
  }
  return sum < 0;
}

// Boxes of the same size with the same neighbours may change places: the first one goes to the top.
function inOrder(nodes, edges, heightOf) {
  const near = nodes.map(({ width, height }) => [width, height]);
  for (const { from, to } of edges) {
    near[from].push(`>${to}`);
    near[to].push(`<${from}`);
  }
  const alike = new Map();
  near.forEach((traits, number) => {
    const key = traits.sort().join(" ");
    alike.has(key) ? alike.get(key).push(number) : alike.set(key, [number]);
  });
  const place = [];
  for (const members of alike.values()) {
    const fromTop = [...members].sort((a, b) => heightOf(a) - heightOf(b));
    members.forEach((number, n) => { place[number] = fromTop[n]; });
  }
  return place;
}
