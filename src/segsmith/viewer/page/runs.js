// Mask <-> run lengths, as the contests write them: pairs of start and length, from 1, down the columns. Masks are
// Uint8Array of 0 and 1, row by row.

/** The mask of run lengths that fit into an image. */
export function maskOf(text, height, width) {
  const mask = new Uint8Array(height * width);
  const numbers = text ? text.split(" ").map(Number) : [];
  for (let pair = 0; pair < numbers.length; pair += 2) {
    const end = numbers[pair] - 1 + numbers[pair + 1];
    for (let pixel = numbers[pair] - 1; pixel < end; pixel += 1) {
      mask[(pixel % height) * width + Math.floor(pixel / height)] = 1;
    }
  }
  return mask;
}

/** The run lengths of a mask, ascending and apart; "" for none. */
export function runsOf(mask, height, width) {
  const numbers = [];
  let begin = -1;
  for (let pixel = 0, column = 0; column < width; column += 1) {
    for (let place = column; place < mask.length; place += width, pixel += 1) {
      if (mask[place] && begin < 0) begin = pixel;
      else if (!mask[place] && begin >= 0) {
        numbers.push(begin + 1, pixel - begin);
        begin = -1;
      }
    }
  }
  if (begin >= 0) numbers.push(begin + 1, mask.length - begin);
  return numbers.join(" ");
}
