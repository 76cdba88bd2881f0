/** What the files of a run's folder are called. */

export const configFile = "config.yaml", manifestFile = "manifest.json";
export const metricsFile = "metrics.jsonl", samplesFile = "samples.jsonl";
/** Made of the others, at any time. */
export const reportFile = "report.html";
