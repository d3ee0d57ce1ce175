// Runs before the page is drawn, so that it does not flash in the wrong colours.
(() => {
  let theme = null;
  try {
    theme = localStorage.getItem('mach.theme');
  } catch {
    // No storage: the system's colours.
  }
  if (theme === 'light' || theme === 'dark') {
    document.documentElement.dataset.theme = theme;
  }
})();
