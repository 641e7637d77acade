// What a reader of the page would stumble over: text that is too small, words cut into pieces, things beside the page.
() => {
  const seen = (element) => element.getClientRects().length && getComputedStyle(element).visibility !== "hidden";
  const walker = document.createTreeWalker(document.querySelector("main"), NodeFilter.SHOW_TEXT);
  const small = [], broken = [];
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement;
    if (!node.data.trim() || !seen(element)) continue;
    const size = parseFloat(getComputedStyle(element).fontSize) * (element.ownerSVGElement ? element.ownerSVGElement.getScreenCTM().a : 1);
    if (size < 11) small.push(`${node.data.trim().slice(0, 40)}: ${size.toFixed(1)} px`);
    for (const word of node.data.matchAll(/\S+/g)) {
      // Hashes, paths and names of variables have to break somewhere, and words may at their hyphens.
      if (word[0].length > 20 || /[-_]/.test(word[0])) continue;
      const range = document.createRange();
      range.setStart(node, word.index);
      range.setEnd(node, word.index + word[0].length);
      const lines = new Set([...range.getClientRects()].map((box) => Math.round(box.top)));
      if (!element.ownerSVGElement && lines.size > 1) broken.push(word[0]);
    }
  }
  const page = document.documentElement;
  const beside = [...document.querySelectorAll("main *")].filter((element) =>
    seen(element) && !element.closest(".scroll *, svg") && element.getBoundingClientRect().right > page.clientWidth + 1);
  return {
    width: page.scrollWidth - page.clientWidth, small, broken,
    beside: beside.map((element) => element.outerHTML.slice(0, 80)),
  };
}
