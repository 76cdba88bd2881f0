/**
 * Texts that tokenizers have got wrong.
 *
 * @module
 */

/** White space, controls, joined emoji, names of special tokens. */
export const awkward = [
  "\t  two  spaces \r\n\n end ",
  "NUL \0 in the middle",
  "emoji 👩‍👩‍👧 🇩🇪 漢字 e\u0301",
  "\uFEFFa byte order mark",
  "they don't; the end <|endoftext|> <think>",
  "a\u2028b\u0085c",
];

/** Sentences in several scripts, and code. */
export const unicodeSamples = [
  "Ĉiuj homoj estas denaske liberaj kaj egalaj laŭ digno kaj rajtoj.",
  "Все люди рождаются свободными и равными в своём достоинстве и правах. 1948",
  "人人生而自由，在尊严和权利上一律平等。すべての人間は、生れながらにして自由であり、",
  "모든 인간은 태어날 때부터 자유로우며 존엄과 권리에 있어 동등하다.",
  "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता प्राप्त है।",
  "يولد جميع الناس أحرارًا متساوين في الكرامة والحقوق ١٢٣",
  "ทุกคนเกิดมามีอิสระ  Z̷a̸l̵g̶o̴ ﬁne ½ Ⅷ ①  \u00a0\u3000x",
  "function f(x: number): number {\n\treturn x ** 2 + 0x1F; // don't\r\n}\n\n\n  I'LL, I'll 'S\n",
];
