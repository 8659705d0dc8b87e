"""How well text and the focus stand out from what is behind them, as WCAG 2 measures it, from the colours of a page."""

from __future__ import annotations

COMMON = """
  const numbers = (text) => (text.match(/[\\d.]+/g) ?? []).map(Number);
  const over = (top, below) => { const a = top[3] ?? 1; return [0, 1, 2].map((i) => a * top[i] + (1 - a) * below[i]); };
  const behind = (element) => {
    const layers = [];
    for (let one = element; one; one = one.parentElement) layers.push(numbers(getComputedStyle(one).backgroundColor));
    return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255]);
  };
  const light = (colour) => {
    const [r, g, b] = colour.map((c) => c / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ratio = (one, other) => {
    const [low, high] = [light(one), light(other)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };
"""
TEXT = f"""() => {{{COMMON}
  const seen = [], words = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (words.nextNode()) {{
    const element = words.currentNode.parentElement, style = getComputedStyle(element);
    if (!words.currentNode.data.trim() || !element.checkVisibility({{ visibilityProperty: true }})) continue;
    if (element.closest("title, script, style, .drawing")) continue;
    const back = behind(element), colour = element.closest("svg") ? style.fill : style.color;
    const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700);
    const found = ratio(over(numbers(colour), back), back);
    seen.push({{ ratio: found, needed: large ? 3 : 4.5, text: words.currentNode.data.trim() }});
  }}
  return seen;
}}"""
"""Of each piece of text the ratio of luminances, and what level AA asks for."""
DRAWN = f"""() => {{{COMMON}
  const seen = [];
  for (const text of document.querySelectorAll(".drawing svg text")) {{
    const style = getComputedStyle(text), svg = text.closest("svg");
    if (!text.textContent.trim() || !text.checkVisibility({{ opacityProperty: true }})) continue;
    text.scrollIntoView({{ block: "center", inline: "center" }});
    const box = text.getBoundingClientRect();
    const under = document.elementsFromPoint(box.x + box.width / 2, box.y + box.height / 2)
      .filter((one) => svg.contains(one) && one.matches("path, rect") && getComputedStyle(one).fill !== "none");
    const back = under.reverse().reduce((below, one) => {{
      const its = getComputedStyle(one), fill = numbers(its.fill);
      return over([fill[0], fill[1], fill[2], (fill[3] ?? 1) * its.fillOpacity * its.opacity], below);
    }}, behind(svg));
    const fill = numbers(style.fill), opacity = (fill[3] ?? 1) * style.fillOpacity * style.opacity;
    const shown = over([fill[0], fill[1], fill[2], opacity], back);
    seen.push({{ ratio: ratio(shown, back), needed: 4.5, text: text.textContent, figure: text.closest("figure").id }});
  }}
  return seen;
}}"""
"""The same of text in drawings, where shapes lie behind it."""
FOCUSED = f"""() => {{{COMMON}
  const it = document.activeElement, style = getComputedStyle(it);
  const outlined = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 1;
  const back = behind(it.parentElement ?? it);
  return {{ number: it.dataset.tested, ring: outlined ? ratio(over(numbers(style.outlineColor), back), back) : 0,
           box: it.getBoundingClientRect().toJSON(), html: it.outerHTML.slice(0, 120) }};
}}"""
"""What has the focus, and how well its outline stands out: level AA asks for 3."""
CONTROLS = """() => {
  const all = [...document.querySelectorAll("a[href], button, input, select, textarea, summary")];
  const shown = all.filter((one) => !one.disabled && one.type !== "hidden" && one.checkVisibility());
  const usable = shown.filter((one) => one.tabIndex >= 0);
  usable.forEach((one, number) => { one.dataset.tested = number; });
  const left = shown.filter((one) => one.tabIndex < 0).map((one) => one.getAttribute("href"));
  return { usable: usable.map((one) => one.outerHTML.slice(0, 120)), left };
}"""
"""Numbers everything that keys can use; `left` are the links that only a pointer can."""
