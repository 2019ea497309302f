// Zoom, pan and the small map of the graph. The figure scrolls, so touch, scrollbars and keys pan as everywhere;
// zooming changes the size of the drawing.

const SVG = "http://www.w3.org/2000/svg";
const STEP = 1.25;
const LARGEST = 2.5;
const SMALLEST = 0.05;
const PADDING = 16;
const SLOP = 4; // pixels: a shorter drag is a click
const WHEEL = 0.01;

// `readable`: the scale below which texts are too small. A drawing that fits only below it starts at that scale.
export function zoomOf(frame, figure, { readable, highest }) {
  const map = frame.querySelector("[data-map]");
  const rectOf = element("rect", { class: "view" });
  let svg = null;
  let size = { width: 1, height: 1 };
  let scale = 1;
  let dots = [];

  const fitting = () => Math.min(1, (figure.clientWidth - 2 * PADDING) / size.width, (highest - 2 * PADDING) / size.height);

  // Zooms and leaves the point of the drawing that is there in its place. `at` is in pixels of the window.
  function to(wanted, at = middle()) {
    const next = Math.min(LARGEST, Math.max(SMALLEST, Math.min(fitting(), readable), wanted));
    const before = svg.getBoundingClientRect();
    const [x, y] = [(at.x - before.left) / scale, (at.y - before.top) / scale];
    scale = next;
    svg.setAttribute("width", size.width * scale);
    svg.setAttribute("height", size.height * scale);
    const after = svg.getBoundingClientRect();
    figure.scrollLeft += after.left + x * scale - at.x;
    figure.scrollTop += after.top + y * scale - at.y;
    showView();
  }

  function middle() {
    const { left, top, width, height } = figure.getBoundingClientRect();
    return { x: left + width / 2, y: top + height / 2 };
  }

  function showView() {
    const isWhole = figure.scrollWidth <= figure.clientWidth && figure.scrollHeight <= figure.clientHeight;
    map.toggleAttribute("hidden", isWhole);
    figure.classList.toggle("pannable", !isWhole);
    const view = { x: (figure.scrollLeft - PADDING) / scale, y: (figure.scrollTop - PADDING) / scale, width: figure.clientWidth / scale, height: figure.clientHeight / scale };
    for (const [name, value] of Object.entries(view)) rectOf.setAttribute(name, value);
  }

  // Scrolls the point of the drawing into view: to the middle, or as little as needed.
  function reveal({ x, y }, { center = false, room = 60 } = {}) {
    for (const [side, length, from] of [["scrollLeft", figure.clientWidth, x], ["scrollTop", figure.clientHeight, y]]) {
      const at = from * scale + PADDING;
      if (center) figure[side] = at - length / 2;
      else figure[side] = Math.min(Math.max(figure[side], at + room * scale - length), Math.max(0, at - room * scale));
    }
  }

  const actions = { in: () => to(scale * STEP), out: () => to(scale / STEP), fit: () => to(fitting()), full: () => to(1) };
  frame.addEventListener("click", (event) => actions[event.target.closest("[data-zoom]")?.dataset.zoom]?.());
  frame.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const name = { "+": "in", "=": "in", "-": "out", 0: "fit", 1: "full" }[event.key];
    if (!name) return;
    event.preventDefault();
    actions[name]();
  });
  figure.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return; // it scrolls
    event.preventDefault();
    to(scale * Math.exp(-Math.max(-50, Math.min(50, event.deltaY)) * WHEEL), { x: event.clientX, y: event.clientY });
  }, { passive: false });
  figure.addEventListener("scroll", showView, { passive: true });
  new ResizeObserver(() => svg && showView()).observe(figure);
  pannedByMouse(figure);
  pinched(figure, () => scale, to);
  pointedAt(map, (x, y) => reveal({ x, y }, { center: true }));

  return {
    reveal,
    scale: () => scale,
    // Shows another drawing; `places` are those of its boxes.
    show(drawing, plan, places, { keep }) {
      svg = drawing;
      size = plan;
      if (!keep) scale = Math.max(fitting(), Math.min(1, readable));
      svg.setAttribute("width", size.width * scale);
      svg.setAttribute("height", size.height * scale);
      figure.style.height = `${Math.min(highest, size.height * Math.max(scale, fitting()) + 2 * PADDING)}px`;
      map.setAttribute("viewBox", `0 0 ${size.width} ${size.height}`);
      dots = places.map(({ x, y, width, height }) => element("rect", { x, y, width, height, class: "dot" }));
      map.replaceChildren(...dots, rectOf);
      showView();
    },
    // Between a redrawing and its next frame, the number may be one of the picture before.
    dot(number, status) {
      if (dots[number] && dots[number].classList[1] !== status) dots[number].setAttribute("class", `dot ${status}`);
    },
  };
}

function pannedByMouse(figure) {
  let start = null;
  let isDragged = false;
  figure.addEventListener("dragstart", (event) => event.preventDefault()); // boxes are links
  figure.addEventListener("pointerdown", (event) => {
    isDragged = false;
    if (event.pointerType !== "mouse" || event.button !== 0) return; // touch scrolls
    start = { x: event.clientX, y: event.clientY, left: figure.scrollLeft, top: figure.scrollTop };
  });
  figure.addEventListener("pointermove", (event) => {
    if (!start) return;
    const [x, y] = [event.clientX - start.x, event.clientY - start.y];
    if (!isDragged && Math.hypot(x, y) < SLOP) return;
    if (!isDragged) figure.setPointerCapture(event.pointerId);
    isDragged = true;
    figure.classList.add("panned");
    figure.scrollLeft = start.left - x;
    figure.scrollTop = start.top - y;
  });
  for (const name of ["pointerup", "pointercancel"]) {
    figure.addEventListener(name, () => {
      start = null;
      figure.classList.remove("panned");
    });
  }
  figure.addEventListener("click", (event) => {
    if (!isDragged) return;
    event.preventDefault();
    event.stopPropagation();
  }, { capture: true });
}

function pinched(figure, scaleNow, to) {
  let start = null;
  const distance = ([one, two]) => Math.hypot(one.clientX - two.clientX, one.clientY - two.clientY);
  figure.addEventListener("touchstart", ({ touches }) => {
    start = touches.length === 2 ? { distance: distance(touches), scale: scaleNow() } : null;
  }, { passive: true });
  figure.addEventListener("touchmove", (event) => {
    if (!start || event.touches.length !== 2) return;
    event.preventDefault();
    const [one, two] = event.touches;
    to((start.scale * distance(event.touches)) / start.distance, { x: (one.clientX + two.clientX) / 2, y: (one.clientY + two.clientY) / 2 });
  }, { passive: false });
}

// Calls `show` with the point of the map that is clicked or dragged over.
function pointedAt(map, show) {
  const point = (event) => {
    const { x, y } = new DOMPoint(event.clientX, event.clientY).matrixTransform(map.getScreenCTM().inverse());
    show(x, y);
  };
  map.addEventListener("pointerdown", (event) => { map.setPointerCapture(event.pointerId); point(event); });
  map.addEventListener("pointermove", (event) => event.buttons && point(event));
}

function element(name, attributes) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
}
