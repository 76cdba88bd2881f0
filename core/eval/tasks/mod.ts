export { type CarriedTask, type Catalog, catalog, taskOpener } from "./open.ts";
export { chooseShots } from "./shots.ts";
