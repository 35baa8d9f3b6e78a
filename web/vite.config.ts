import { fileURLToPath } from 'node:url';
import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig } from 'vitest/config';
import { compression } from './compression.ts';

/** Where `npm run dev` finds a yard. */
const YARD = process.env.TRAINYARD_URL ?? 'http://127.0.0.1:8000';

export default defineConfig({
  base: './', // relative, so that the page works behind any path prefix
  plugins: [svelte(), compression()],
  worker: { format: 'es' },
  build: {
    outDir: fileURLToPath(new URL('../api/page', import.meta.url)),
    emptyOutDir: true,
    target: 'es2022',
    assetsInlineLimit: 0, // the policy allows no data: addresses
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
    manifest: 'manifest.json', // which file each part became, for the test of the budgets
    rolldownOptions: {
      output: {
        codeSplitting: {
          // What draws is a chunk of its own, loaded beside what stands around it; the list's small curves need none of it.
          groups: [
            { name: 'numbers', test: /src\/charts\/smooth/, priority: 1 },
            { name: 'drawing', test: /node_modules\/uplot\/|src\/charts\/(plot|overlay)/ },
          ],
        },
      },
    },
    license: { fileName: 'assets/licences.txt' }, // of what is in the page; a name of its own, so it is asked for each time
  },
  server: {
    host: '127.0.0.1',
    proxy: {
      // everything that Vite does not serve itself; the yard must see its own name as Host
      '^/(?!$|@|src/|node_modules/|index\\.html|favicon\\.svg|\\?)': { target: YARD, changeOrigin: true },
    },
  },
  // vitest takes Svelte's code for browsers, in which runes and effects work
  resolve: process.env.VITEST ? { conditions: ['browser'] } : {},
  test: { include: ['tests/**/*.test.ts'], environment: 'node' },
});
