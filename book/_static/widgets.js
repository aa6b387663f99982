// Where require.js finds anywidget among the scripts served with the book.
requirejs.config({
  paths: { anywidget: document.documentElement.dataset.content_root + "_static/vendor/anywidget/dist/index" },
});
// ipywidgets sets formulas through the second MathJax's interface; the third's does the same.
window.MathJax ??= {};
MathJax.Hub ??= {
  Queue: ([, , element]) => MathJax.startup?.promise.then(() => MathJax.typesetPromise([element])),
};
