export { aboutDrivers, type Adapter, adviceFor, type Findings } from "./advice.ts";
export { describeMachine, type Machine } from "./machine.ts";
export { type PlanTimes, timePlans } from "./plan_times.ts";
export { type Room, roomOf } from "./room.ts";
export { type OpResult, selfTest } from "./self_test.ts";
