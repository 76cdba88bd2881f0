/** A Python that has torch; Debian's own comes without being first in the path. Undefined where none has. */
export const python = ["python3", "/usr/bin/python3"].find((command) => {
  const look = "import importlib.util, sys; sys.exit(importlib.util.find_spec('torch') is None)";
  try {
    return new Deno.Command(command, { args: ["-c", look] }).outputSync().success;
  } catch {
    return false;
  }
});
