// Asks a DICOMweb service with the dicomweb-client of npm and writes what came into a folder.
//
// Arguments: the folder whose node_modules holds the client, and a JSON object with `url`, `study`,
// `series`, `instance`, `syntax` and `mediaType` (of its frames), `native` (whether they are not
// compressed), `frames`, `patient` and `into`.
// Prints JSON: metadata and matches as they came, and the names of the files of everything else.

"use strict";

const fs = require("fs");
const path = require("path");
const { createRequire } = require("module");

const modules = createRequire(path.join(path.resolve(process.argv[2]), "index.js"));
// The client was made for browsers.
global.XMLHttpRequest = modules("xmlhttprequest-ssl");
const { api } = modules("dicomweb-client");

const asked = JSON.parse(process.argv[3]);

const OCTETS = { Accept: "application/octet-stream" };

/** Writes each body to a file of its own. */
function keep(name, bodies) {
  return bodies.map((body, number) => {
    const file = `${name}-${number}`;
    fs.writeFileSync(path.join(asked.into, file), Buffer.from(body));
    return file;
  });
}

async function main() {
  const client = new api.DICOMwebClient({ url: asked.url });
  // Its mediaTypes cannot say application/dicom; OHIF adds what it accepts as a header.
  const storing = new api.DICOMwebClient({
    url: asked.url,
    headers: { Accept: 'multipart/related; type="application/dicom"; transfer-syntax=*' },
  });
  const study = { studyInstanceUID: asked.study };
  const series = { ...study, seriesInstanceUID: asked.series };
  const instance = { ...series, sopInstanceUID: asked.instance };
  const frames = { ...instance, frameNumbers: asked.frames };
  const jpeg = [{ mediaType: "image/jpeg" }];

  const [metadata] = await client.retrieveInstanceMetadata(instance);
  const { BulkDataURI } = metadata["7FE00010"];
  const singlepart = new api.DICOMwebClient({ url: asked.url, singlepart: "bulkdata" });

  const answer = {
    bulk: keep("bulk", await client.retrieveBulkData({ BulkDataURI })),
    singleBulk: asked.native
      ? keep("single-bulk", await singlepart.retrieveBulkData({ BulkDataURI, headers: OCTETS }))
      : [],
    study: keep("study", await storing.retrieveStudy(study)),
    series: keep("series", await storing.retrieveSeries(series)),
    instance: keep("instance", [await storing.retrieveInstance(instance)]),
    plain: keep("plain", [await client.retrieveInstance(instance)]),
    samples: keep("samples", await client.retrieveInstanceFrames(frames)),
    frames: keep(
      "frames",
      await client.retrieveInstanceFrames({
        ...frames,
        mediaTypes: [{ mediaType: asked.mediaType, transferSyntaxUID: asked.syntax }],
      }),
    ),
    rendered: keep("rendered", await client.retrieveInstanceRendered(instance)),
    renderedJpeg: keep("rendered-jpeg", [
      await client.retrieveInstanceRendered({ ...instance, mediaTypes: jpeg }),
    ].flat()),
    renderedFrame: keep(
      "rendered-frame",
      await client.retrieveInstanceFramesRendered({
        ...instance,
        frameNumbers: [1],
        mediaTypes: [{ mediaType: "image/png" }],
        queryParams: { viewport: "32,32" },
      }),
    ),
    thumbnail: keep("thumbnail", await client.retrieveInstanceThumbnail(instance)),
    studyMetadata: await client.retrieveStudyMetadata(study),
    seriesMetadata: await client.retrieveSeriesMetadata(series),
    instanceMetadata: await client.retrieveInstanceMetadata(instance),
    foundStudies: await client.searchForStudies({
      queryParams: { PatientID: asked.patient, limit: 101, offset: 0, fuzzymatching: false },
    }),
    foundPage: await client.searchForStudies({
      queryParams: { limit: 2, offset: 1, includefield: "00081030,00080060" },
    }),
    foundSeries: await client.searchForSeries({
      ...study,
      queryParams: { includefield: "0008103E,00080021" },
    }),
    foundInstances: await client.searchForInstances(series),
  };
  process.stdout.write(JSON.stringify(answer));
}

main().catch((error) => {
  const answer = error.response instanceof ArrayBuffer ? Buffer.from(error.response) : error.response;
  console.error(error.status || "", answer ? String(answer) : "", error.stack);
  process.exit(1);
});
