/**
 * Dates as templates write them: Python's `strftime`, with English names.
 *
 * @module
 */

const months = [
  ...["January", "February", "March", "April", "May", "June", "July"],
  ...["August", "September", "October", "November", "December"],
];
const days = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const padded = (value: number, digits = 2) => String(value).padStart(digits, "0");
const hour12 = (date: Date) => date.getHours() % 12 || 12;

const directives: Readonly<Record<string, (date: Date) => string>> = {
  Y: (date) => String(date.getFullYear()),
  y: (date) => padded(date.getFullYear() % 100),
  m: (date) => padded(date.getMonth() + 1),
  B: (date) => months[date.getMonth()],
  b: (date) => months[date.getMonth()].slice(0, 3),
  d: (date) => padded(date.getDate()),
  e: (date) => String(date.getDate()).padStart(2),
  A: (date) => days[date.getDay()],
  a: (date) => days[date.getDay()].slice(0, 3),
  H: (date) => padded(date.getHours()),
  I: (date) => padded(hour12(date)),
  p: (date) => date.getHours() < 12 ? "AM" : "PM",
  M: (date) => padded(date.getMinutes()),
  S: (date) => padded(date.getSeconds()),
  "%": () => "%",
};

/** A date, in local time, in a format such as `%d %b %Y`; `%-d` has no leading zero. */
export function strftime(date: Date, format: string): string {
  return format.replaceAll(/%(-?)(.?)/gs, (directive, bare, name) => {
    const write = directives[name];
    if (write === undefined) throw new Error(`strftime knows no ${directive}`);
    return bare === "" ? write(date) : write(date).replace(/^[0 ]+(?=.)/, "");
  });
}
