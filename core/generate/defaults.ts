/** How tokens are chosen where nothing else is said: of the command line, and of samples while training. */
export const samplingDefaults = { temperature: 0.8, topK: 0, topP: 1, minP: 0 } as const;
