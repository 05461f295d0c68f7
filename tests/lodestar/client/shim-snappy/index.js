// snappy builds native code when it is installed; snappyjs speaks the same format in JavaScript.
const snappyjs = require("snappyjs");

const compressSync = (input) => Buffer.from(snappyjs.compress(Buffer.from(input)));
const uncompressSync = (input) => Buffer.from(snappyjs.uncompress(Buffer.from(input)));

function isValidCompressedSync(input) {
  try {
    uncompressSync(input);
    return true;
  } catch {
    return false;
  }
}

/** The callback comes last; options before it are for the native build only. */
const later = (work) => (input, ...rest) => {
  const callback = rest.at(-1);
  let result;
  try {
    result = work(input);
  } catch (error) {
    return callback(error);
  }
  callback(null, result);
};

module.exports = {
  compressSync,
  uncompressSync,
  isValidCompressedSync,
  compress: later(compressSync),
  uncompress: later(uncompressSync),
  isValidCompressed: later(isValidCompressedSync),
};
