// node upload.mjs ENDPOINT FILE OPTIONS: uploads a file with tus-js-client as it is, and prints its address.
import { createReadStream, statSync } from "node:fs"
import { basename } from "node:path"
import * as tus from "tus-js-client"

const [endpoint, file, text] = process.argv.slice(2)
const { abortAt, terminate, ...options } = JSON.parse(text)
const size = options.uploadLengthDeferred ? {} : { uploadSize: statSync(file).size }

function end(address) {
  process.stdout.write(address + "\n", () => process.exit(0))
}

const upload = new tus.Upload(createReadStream(file), {
  endpoint,
  ...size,
  metadata: { filename: basename(file), filetype: "application/zip" },
  retryDelays: [0, 500, 1000],
  ...options,
  onError(error) {
    process.stderr.write(String(error) + "\n", () => process.exit(1))
  },
  onChunkComplete(_, accepted) {
    if (abortAt && accepted >= abortAt) {
      const address = upload.url
      upload.abort(Boolean(terminate)).then(() => end(address))
    }
  },
  onSuccess() {
    end(upload.url)
  },
})
upload.start()
