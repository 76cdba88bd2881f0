/**
 * The alphabet of byte-level tokenizers: each byte as one character.
 *
 * @module
 */

/**
 * GPT-2's alphabet, in the order of the bytes: printable bytes stand for themselves, the rest for
 * characters from U+0100 on.
 */
export const byteCharacters: ReadonlyMap<string, number> = new Map(
  Array.from({ length: 256 }, (_, byte) => byte).reduce<[string, number][]>((pairs, byte) => {
    const printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte !== 0xad);
    const shifted = pairs.filter(([character]) => character >= "\u0100").length;
    return [...pairs, [String.fromCharCode(printable ? byte : 0x100 + shifted), byte]];
  }, []),
);
