/**
 * The quickstart's own text, made from a seed: short English-like stories, each with a hero who
 * loses a thing, looks for it, and is helped; and one-line sums, some of which are never shown.
 *
 * Small enough to learn in a minute, with something to learn at each distance: spelling, grammar,
 * the hero's name and pronoun, the thing that was lost, and a rule (addition) that the held-out
 * sums test.
 *
 * @module
 */
import { purposes, uniform } from "./philox.ts";

/** A sum that never occurs in the training text, as a prompt and what should follow. */
export interface HeldOutSum {
  readonly question: string;
  readonly answer: string;
}

/** A generated corpus. */
export interface Corpus {
  readonly documents: readonly string[];
  readonly heldOut: readonly HeldOutSum[];
}

/** How large a corpus to make; the same seed and sizes give the same text. */
export interface CorpusOptions {
  readonly seed: number;
  /** About how many bytes of text; ASCII, so also characters. */
  readonly bytes?: number;
  /** How many sums are held out. */
  readonly heldOutSums?: number;
  /** The part of the bytes that are sums. */
  readonly sumsFraction?: number;
}

/** Makes the corpus. */
export function makeCorpus({
  seed,
  bytes = 2_000_000,
  heldOutSums = 200,
  sumsFraction = 0.4,
}: CorpusOptions): Corpus {
  const random = randomStream(seed);
  const { shown, heldOut } = divideSums(random, heldOutSums);
  const documents: string[] = [];
  const written = { story: 0, sum: 0 };
  while (written.story + written.sum < bytes) {
    const isSumNext = written.sum <= sumsFraction * (written.story + written.sum);
    const document = isSumNext ? sumText(random.pick(shown)) : story(random);
    documents.push(document);
    written[isSumNext ? "sum" : "story"] += document.length + 1;
  }
  return { documents: random.shuffle(documents), heldOut: heldOut.map(questionOf) };
}

type Sum = readonly [number, number];

/**
 * All sums of up to 99. a + b and b + a are held out together, else the other order would give one
 * away.
 */
function divideSums(random: RandomStream, heldOutSums: number) {
  const pairs: Sum[] = [];
  for (let a = 0; a <= 99; a++) for (let b = a; a + b <= 99; b++) pairs.push([a, b]);
  const order = random.shuffle(pairs);
  const both = ([a, b]: Sum): Sum[] => a === b ? [[a, b]] : [[a, b], [b, a]];
  const heldOut: Sum[] = [];
  let taken = 0;
  while (heldOut.length < heldOutSums && taken < order.length / 2) {
    heldOut.push(...both(order[taken++]));
  }
  return { shown: order.slice(taken).flatMap(both), heldOut: heldOut.slice(0, heldOutSums) };
}

function questionOf([a, b]: Sum): HeldOutSum {
  return { question: `What is ${a} + ${b}?`, answer: ` ${a + b}.` };
}

function sumText(sum: Sum): string {
  const { question, answer } = questionOf(sum);
  return question + answer;
}

/** Random choices, one after the other. */
interface RandomStream {
  pick<T>(from: readonly T[]): T;
  /** True with this probability. */
  chance(probability: number): boolean;
  shuffle<T>(things: readonly T[]): T[];
}

function randomStream(seed: number): RandomStream {
  let draws = 0;
  const next = () => uniform(seed, purposes.corpus, draws++);
  return {
    pick: (from) => from[Math.floor(next() * from.length)],
    chance: (probability) => next() < probability,
    shuffle(things) {
      const result = [...things];
      for (let i = result.length - 1; i > 0; i--) {
        const j = Math.floor(next() * (i + 1));
        [result[i], result[j]] = [result[j], result[i]];
      }
      return result;
    },
  };
}

const girls = ["Anna", "Clara", "Ida", "Lily", "Mia", "Nora", "Rosa", "Zoe"];
const boys = ["Ben", "Emil", "Hugo", "Jonas", "Leo", "Max", "Oskar", "Tom"];
const helpers = ["cat", "dog", "fox", "goat", "hen", "horse", "mouse", "owl", "rabbit", "sparrow"];
const things = [
  "ball",
  "bell",
  "book",
  "boot",
  "box",
  "coin",
  "cup",
  "drum",
  "hat",
  "key",
  "kite",
  "lamp",
  "map",
  "ring",
  "scarf",
  "spoon",
];
const looks = [
  "red",
  "blue",
  "green",
  "golden",
  "little",
  "old",
  "round",
  "shiny",
  "soft",
  "wooden",
];
const places = [
  "in the barn",
  "in the garden",
  "in the kitchen",
  "in the tall grass",
  "on the hill",
  "on the roof",
  "behind the mill",
  "behind the door",
  "under the bed",
  "under the bridge",
  "by the river",
  "by the well",
];
const weathers = ["sunny", "rainy", "windy", "cold", "warm", "foggy", "quiet"];
const tempers = ["kind", "brave", "clever", "shy", "cheerful", "curious", "patient"];
const treats = ["an apple", "some bread", "a pear", "warm milk", "a bit of cheese", "honey cake"];

/** What the sentences of one story agree on. */
interface Cast {
  hero: string;
  he: string;
  his: string;
  him: string;
  helper: string;
  thing: string;
  look: string;
  wrongPlace: string;
  rightPlace: string;
}

function story(random: RandomStream): string {
  const isGirl = random.chance(0.5);
  const [wrongPlace, rightPlace] = random.shuffle(places);
  const cast: Cast = {
    hero: random.pick(isGirl ? girls : boys),
    he: isGirl ? "she" : "he",
    his: isGirl ? "her" : "his",
    him: isGirl ? "her" : "him",
    helper: random.pick(helpers),
    thing: random.pick(things),
    look: random.pick(looks),
    wrongPlace,
    rightPlace,
  };
  const parts = [opening(cast, random), loss(cast, random)];
  if (random.chance(0.6)) parts.push(search(cast, random));
  parts.push(meeting(cast, random), finding(cast, random), ending(cast, random));
  return parts.join(" ");
}

function opening({ hero, he, look, thing }: Cast, random: RandomStream): string {
  const temper = random.pick(tempers);
  const child = he === "she" ? "girl" : "boy";
  return random.pick([
    `Once there was a ${temper} ${child} named ${hero}. ${hero} had a ${look} ${thing}.`,
    `${hero} was a ${temper} ${child} who loved a ${look} ${thing}.`,
    `It was a ${random.pick(weathers)} day, and ${hero} was playing with a ${look} ${thing}.`,
  ]);
}

function loss({ hero, he, his, thing }: Cast, random: RandomStream): string {
  return random.pick([
    `One morning the ${thing} was gone.`,
    `But then ${he} lost ${his} ${thing}, and ${hero} was very sad.`,
    `In the evening ${hero} could not find the ${thing}.`,
  ]);
}

function search({ hero, he, thing, wrongPlace }: Cast, random: RandomStream): string {
  return random.pick([
    `${capital(he)} looked ${wrongPlace}, but the ${thing} was not there.`,
    `${hero} went to look ${wrongPlace}. There was no ${thing}.`,
    `First ${he} searched ${wrongPlace}, and found only ${random.pick(treats)}.`,
  ]);
}

function meeting({ hero, he, him, helper, thing, rightPlace }: Cast, random: RandomStream): string {
  const name = `${random.pick(tempers)} ${helper}`;
  return random.pick([
    `Then a ${name} came by. "I saw your ${thing} ${rightPlace}," said the ${helper}.`,
    `${hero} met a ${name}. "Why are you sad?" asked the ${helper}. "I lost my ${thing}," said ${hero}. ` +
    `"Look ${rightPlace}," said the ${helper}.`,
    `A ${name} wanted to help ${him}. Together ${he} and the ${helper} went to look ${rightPlace}.`,
  ]);
}

function finding({ hero, he, his, look, thing, rightPlace }: Cast, random: RandomStream): string {
  return random.pick([
    `And there it was: the ${look} ${thing} was ${rightPlace}!`,
    `${hero} ran, and found ${his} ${look} ${thing} ${rightPlace}.`,
    `${capital(rightPlace)} lay the ${thing}, as ${look} as before, and ${he} laughed.`,
  ]);
}

function ending({ hero, he, his, helper, thing }: Cast, random: RandomStream): string {
  const treat = random.pick(treats);
  return random.pick([
    `${hero} thanked the ${helper} and gave it ${treat}.`,
    `"Thank you," said ${hero} to the ${helper}, and they shared ${treat}.`,
    `From that day on ${hero} and the ${helper} were friends, and ${he} never lost ${his} ${thing} again.`,
  ]);
}

function capital(text: string): string {
  return text[0].toUpperCase() + text.slice(1);
}
