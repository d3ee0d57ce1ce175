// Calls to the server that this page came from. Errors of all kinds become ApiError.

export class ApiError extends Error {
  constructor(message, { status = 0, code = null, param = null, requestId = null, progress = null } = {}) {
    super(message);
    Object.assign(this, { status, code, param, requestId, progress });
  }
}

const KEY = 'mach.key';
let key = '';
try {
  key = sessionStorage.getItem(KEY) ?? '';
} catch {
  // Kept for as long as the page is open.
}

export const hasKey = () => key !== '';

export function setKey(value) {
  key = value;
  try {
    sessionStorage.setItem(KEY, value);
  } catch {
    // As above.
  }
}

async function errorOf(response) {
  const about = { status: response.status, requestId: response.headers.get('x-request-id') };
  let message = `The server answered with status ${response.status}.`;
  try {
    const body = await response.json();
    message = body.error?.message ?? message;
    Object.assign(about, { code: body.error?.code ?? null, param: body.error?.param ?? null });
    about.progress = body.progress ?? null;
  } catch {
    // No JSON: a proxy between here and there, perhaps.
  }
  return new ApiError(message, about);
}

// The response if its status is 2xx; paths are relative to the page.
export async function call(path, { body, signal } = {}) {
  const headers = {};
  if (key) headers.Authorization = `Bearer ${key}`;
  if (body !== undefined) headers['Content-Type'] = 'application/json';
  let response;
  try {
    response = await fetch(path, {
      method: body === undefined ? 'GET' : 'POST',
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      signal,
      cache: 'no-store',
    });
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new ApiError('The server cannot be reached.');
  }
  if (!response.ok) throw await errorOf(response);
  return response;
}

export const getJson = async (path) => (await call(path)).json();
