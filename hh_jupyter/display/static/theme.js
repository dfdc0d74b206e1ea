/** Light or dark theme, as set by the page. */

const ATTRIBUTES = ["class", "theme", "data-theme", "data-jp-theme-light", "data-vscode-theme-kind"];

/** Whether the theme is dark. The system's preference counts only if the page sets no theme. */
export function isDark(doc = document) {
  const body = doc.body;
  const lab = body.getAttribute("data-jp-theme-light");
  if (lab !== null) return lab === "false";
  const kind = body.getAttribute("data-vscode-theme-kind") ?? body.className;
  if (/vscode-/.test(kind)) return /dark|high-contrast(?!-light)/.test(kind);
  const theme = doc.documentElement.getAttribute("theme") ?? doc.documentElement.getAttribute("data-theme");
  if (theme) return theme === "dark";
  return matchMedia("(prefers-color-scheme: dark)").matches;
}

/**
 * Call a function on every change of the theme.
 * @param {() => void} changed
 * @returns {() => void} stops it
 */
export function followTheme(changed) {
  const observer = new MutationObserver(changed);
  for (const root of [document.body, document.documentElement]) observer.observe(root, { attributes: true, attributeFilter: ATTRIBUTES });
  return () => observer.disconnect();
}
