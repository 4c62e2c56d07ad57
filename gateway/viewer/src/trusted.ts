/** The one policy of Trusted Types: scripts are the page's own files, and nothing becomes markup. */

interface Policies {
  createPolicy(
    name: string,
    rules: { createScriptURL(url: string): string; createHTML(markup: string): string; createScript(code: string): string },
  ): unknown;
}

const OWN_SCRIPT = /^\/viewer\/assets\/[A-Za-z0-9._-]+\.m?js$/;

/** Installs the policy where the browser knows Trusted Types; elsewhere the CSP alone holds. */
export function installPolicy(): void {
  const policies = (globalThis as { trustedTypes?: Policies }).trustedTypes;
  policies?.createPolicy('default', {
    createScriptURL(url) {
      const { origin, pathname } = new URL(url, location.href);
      if (origin === location.origin && OWN_SCRIPT.test(pathname)) return url;
      throw new TypeError('script of another place');
    },
    createHTML() {
      throw new TypeError('no markup from text');
    },
    createScript() {
      throw new TypeError('no code from text');
    },
  });
}
