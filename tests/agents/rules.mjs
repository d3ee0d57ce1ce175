// A scripted server for a test file; scripted.py and tests/scripted/script.h say what rules are.
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

const build = process.env.MACH_BUILD_DIR ?? '../../build/release';
const binary = `${build}/tests/scripted/mach_scripted_server`;

export function call(name, args) {
  const written = Object.entries(args).map(([key, value]) =>
    `<parameter=${key}>\n${typeof value === 'string' ? value : JSON.stringify(value)}\n</parameter>\n`);
  return `<tool_call>\n<function=${name}>\n${written.join('')}</function>\n</tool_call>`;
}

export async function serve(rules) {
  const directory = mkdtempSync(join(tmpdir(), 'mach-scripted-'));
  const script = join(directory, 'script.json');
  writeFileSync(script, JSON.stringify({ rules }));
  const server = spawn(binary, ['--script', script], { stdio: ['ignore', 'pipe', 'ignore'] });
  const ended = new Promise((resolve) => server.on('close', resolve));
  let url;
  for await (const line of createInterface({ input: server.stdout })) {
    url = /^serving on (.*)/.exec(line)?.[1];
    if (url) break;
  }
  return {
    url,
    stats: async () => (await fetch(`${url}/stats`)).json(),
    async stop() {
      server.kill('SIGTERM');
      const status = await ended;
      rmSync(directory, { recursive: true });
      return status;
    },
  };
}

export async function until(check, ms = 10000) {
  for (const deadline = Date.now() + ms; Date.now() < deadline;) {
    if (await check()) return true;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return false;
}
