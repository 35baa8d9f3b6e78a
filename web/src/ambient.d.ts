// Lucide's icons, one a file: importing them so keeps the build from reading all fifteen hundred.
declare module 'lucide/dist/esm/icons/*.mjs' {
  const icon: [tag: string, attributes: Record<string, string>][];
  export default icon;
}
