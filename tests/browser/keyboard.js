// For `keyboard.py`: what a walk with Tab should reach, and what is to be seen of whatever has the focus.
() => {
  const INTERACTIVE =
    'a[href], area[href], button, input, select, textarea, summary, audio[controls], video[controls], [contenteditable=""], [contenteditable="true"], [tabindex]';
  const LOOKS = ['outlineStyle', 'outlineWidth', 'outlineColor', 'boxShadow'];

  // Begin before the first element, wherever the focus was.
  document.activeElement?.blur();
  document.body.tabIndex = -1;
  document.body.focus({preventScroll: true});
  document.body.removeAttribute('tabindex');
  window.scrollTo(0, 0);

  const looks = (element) => {
    const style = getComputedStyle(element);
    return Object.fromEntries(LOOKS.map((name) => [name, style[name]]));
  };
  const radios = (element) =>
    element.type === 'radio' && element.name
      ? [...document.querySelectorAll('input[type=radio]')].filter(
          (other) => other.name === element.name && other.form === element.form && !other.disabled)
      : [];
  // Of a group of radio buttons Tab reaches one: the chosen one, or else the first.
  const speaks = (element) => {
    const group = radios(element);
    return group.length === 0 || (group.find((other) => other.checked) ?? group[0]) === element;
  };
  const reachable = (element) =>
    element.checkVisibility({visibilityProperty: true}) && !element.matches(':disabled') &&
    !element.closest('[inert]') && element.type !== 'hidden' &&
    // Only a <details>' first <summary> opens it.
    (element.localName !== 'summary' || element === element.parentElement.querySelector(':scope > summary'));
  const expected = [...document.querySelectorAll(INTERACTIVE)].filter(
    (element) => element.getAttribute('tabindex') !== '-1' && reachable(element) && speaks(element));
  const before = new Map(expected.map((element) => [element, looks(element)]));

  const shown = (element) => {
    const now = looks(element), was = before.get(element);
    const outlined = now.outlineStyle !== 'none' && parseFloat(now.outlineWidth) > 0 &&
      !/^(transparent|rgba\(.*, 0\))$/.test(now.outlineColor);
    const changed = !was || LOOKS.some((name) => now[name] !== was[name]);
    return changed && (outlined || now.boxShadow !== 'none');
  };
  const covered = (element) => {
    const rects = [...element.getClientRects()].filter((rect) => rect.width && rect.height);
    const seen = rects.some((rect) => {
      const top = document.elementFromPoint(rect.x + rect.width / 2, rect.y + rect.height / 2);
      return top && (element.contains(top) || top.contains(element) && getComputedStyle(element).display === 'inline'
        || [...(element.labels ?? [])].some((label) => label.contains(top)));
    });
    return !seen;
  };
  // What a finger may hit: the element, with its labels.
  const target = (element) => {
    const rects = [element, ...(element.labels ?? [])].map((part) => part.getBoundingClientRect());
    const left = Math.min(...rects.map((rect) => rect.left)), top = Math.min(...rects.map((rect) => rect.top));
    return {
      x: left, y: top,
      width: Math.max(...rects.map((rect) => rect.right)) - left,
      height: Math.max(...rects.map((rect) => rect.bottom)) - top,
    };
  };
  // Within a line of text, whose height is the text's.
  const inline = (element) =>
    element.localName === 'a' && getComputedStyle(element).display === 'inline' &&
    [...element.parentElement.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim());
  const scrolls = (element) =>
    element.scrollWidth > element.clientWidth || element.scrollHeight > element.clientHeight;
  const short = (element) => element.cloneNode(false).outerHTML.slice(0, 120);

  window.keyboardWalk = {
    expected: expected.map(short),
    /** The state of whatever has the focus; null when nothing in the document has it. */
    stop: () => {
      const element = document.activeElement;
      if (!element || element === document.body || element === document.documentElement) return null;
      return {
        place: expected.indexOf(element), element: short(element), box: target(element), inline: inline(element),
        indicated: shown(element), covered: covered(element), scrolls: scrolls(element),
      };
    },
  };
  return window.keyboardWalk.expected;
}
