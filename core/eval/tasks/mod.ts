export { taskSchema } from "./json_schema.ts";
export {
  type CarriedTask,
  type Catalog,
  catalog,
  isTaskFile,
  parseTask,
  taskOpener,
} from "./open.ts";
export { chooseShots } from "./shots.ts";
