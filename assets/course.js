(() => {
  // Paper is white: a page that is read in the dark theme prints in the light one.
  const root = document.documentElement;
  let read = null;
  const print = (printing) => {
    if (printing && read === null) {
      read = root.dataset.theme;
      root.dataset.theme = "light";
    } else if (!printing && read !== null) {
      root.dataset.theme = read;
      read = null;
    }
  };
  matchMedia("print").addEventListener("change", (event) => print(event.matches));
  addEventListener("beforeprint", () => print(true));
  addEventListener("afterprint", () => print(false));

  // The theme lets the keyboard reach what scrolls, and looks for it when the window changes: what unfolds may scroll too.
  addEventListener("click", (event) => {
    if (event.target.closest(".admonition-title, summary")) setTimeout(() => dispatchEvent(new Event("resize")));
  });
})();
