// What the viewer answers in bytes -> facts and arrays; the other end of `_packed`.

import { asked } from "./elements.js";

/** Length of the facts in four bytes, the facts as JSON, the content. */
function unpacked(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const facts = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  return { facts, buffer, offset: 4 + length };
}

/** What a chip is decided by: of each class a plane of levels 0..255 as decisions see it, the one that the network made
 * (`raw`), and the truth; which pixels are usable; a byte a pixel, row after row. */
export async function askedLevels(number, chip, version) {
  const response = await asked(`/api/runs/${number}/chips/${chip}/levels?of=${version}`);
  const { facts, buffer, offset } = unpacked(await response.arrayBuffer());
  const [height, width] = facts.hw, size = height * width, classes = facts.gate_values.length;
  const plane = (at) => new Uint8Array(buffer, offset + at * size, size);
  const planes = (first) => Array.from({ length: classes }, (_, n) => plane(first + n));
  const truthAt = facts.raw ? 2 * classes : classes;
  return {
    height, width, gateValues: facts.gate_values, scored: facts.scored,
    levels: planes(0), raw: facts.raw ? planes(classes) : planes(0), truth: planes(truthAt), valid: plane(truthAt + classes),
  };
}

/** The F2 of objects of a chip: of each class `emptied`, where nothing is predicted, and in `scores` that at every level and
 * smallest area. */
export async function askedObjectScores(number, chip, version) {
  const response = await asked(`/api/runs/${number}/chips/${chip}/object_scores?of=${version}`);
  const { facts, buffer, offset } = unpacked(await response.arrayBuffer());
  return { ...facts, scores: new Float64Array(buffer, offset) };
}

/** The picture of a chip, every pixel as it is. */
export async function askedImage(number, chip, version) {
  const response = await asked(`/api/runs/${number}/chips/${chip}/image?of=${version}`);
  return createImageBitmap(await response.blob());
}

/** Sums over all images of a part at every level and smallest area; `progress(done, of)` is called while they are made,
 * and `gone()` says when nobody waits any more. */
export async function askedSurfaces(number, part, progress, gone) {
  for (;;) {
    const response = await asked(`/api/runs/${number}/surfaces/${part}`);
    if (response.status === 200) {
      const { facts, buffer, offset } = unpacked(await response.arrayBuffer());
      return { ...facts, sums: new Float64Array(buffer, offset) };
    }
    const { done, of } = await response.json();
    if (gone()) return null;
    progress(done, of);
    await new Promise((go) => { setTimeout(go, 300); });
  }
}

