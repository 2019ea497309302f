// Loads a tree again when it has grown, or when a box is opened or closed.

const REST_MS = 1000; // the minimum time between two loads of a growing tree
const SHARE = 5; // a load that takes long is followed by a pause of so many times its duration

// `load` fetches and shows the tree. One load at a time: `now` starts one, or one after the present one; `soon` waits for the pause
// after the last one, which may still be under way.
export function growthOf(load) {
  let isBusy = false;
  let next = null; // what was asked for during a load: `now` or `soon`
  let timer = null;
  let mayStartAt = 0;

  async function now() {
    if (isBusy) {
      next = now;
      return;
    }
    clearTimeout(timer);
    timer = null;
    next = null;
    isBusy = true;
    const began = performance.now();
    try {
      await load();
    } catch (error) {
      if (!(error instanceof TypeError)) throw error; // how fetch says that the server is not reached
      next ??= soon;
    } finally {
      isBusy = false;
      mayStartAt = performance.now() + Math.max(REST_MS, SHARE * (performance.now() - began));
    }
    next?.();
  }

  function soon() {
    if (isBusy) {
      next ??= soon;
      return;
    }
    timer ??= setTimeout(() => {
      timer = null;
      document.hidden ? document.addEventListener("visibilitychange", soon, { once: true }) : now();
    }, Math.max(0, mayStartAt - performance.now()));
  }

  // Loads without a pause what is still to be loaded.
  function finish() {
    if (timer !== null || isBusy) now();
  }

  return { now, soon, finish, isBusy: () => isBusy };
}
