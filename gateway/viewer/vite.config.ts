import { defineConfig } from 'vite';

export default defineConfig({
  base: '/viewer/',
  resolve: { alias: { xmlbuilder2: new URL('src/advanced/xmlbuilder2.ts', import.meta.url).pathname } },
  worker: { format: 'es' },
  build: {
    target: 'es2022',
    outDir: 'dist/site',
    emptyOutDir: true,
    assetsDir: 'assets',
    // Everything is a file of the own origin: the CSP allows no data: script.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 6000,
    sourcemap: false,
    reportCompressedSize: false,
  },
});
