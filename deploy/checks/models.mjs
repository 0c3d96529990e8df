// Manifests on stdin as a JSON list; what their models find wrong on stdout, as a list of texts.
// Given to `node --input-type=module --eval` in the directory whose node_modules has the models.
import { readFileSync } from "node:fs";

const PACKAGES = {
  "gateway.networking.k8s.io": "gateway-api",
  "keda.sh": "keda",
  "monitoring.coreos.com": "prometheus-operator",
};
const wrong = [];

async function modelOf(manifest) {
  const [group, version] = String(manifest.apiVersion).split("/");
  if (!(group in PACKAGES)) return undefined;
  try {
    return (await import(`@kubernetes-models/${PACKAGES[group]}/${group}/${version}/${manifest.kind}`))[manifest.kind];
  } catch (error) {
    if (["ERR_MODULE_NOT_FOUND", "ERR_PACKAGE_PATH_NOT_EXPORTED"].includes(error.code)) return undefined;
    throw error;
  }
}

for (const manifest of JSON.parse(readFileSync(0, "utf8"))) {
  const name = `${manifest.kind} ${manifest.metadata?.name}`;
  const model = await modelOf(manifest);
  if (model === undefined) {
    wrong.push(`${name}: there is no schema of ${manifest.apiVersion} ${manifest.kind}`);
    continue;
  }
  try {
    new model(manifest).validate();
  } catch (error) {
    wrong.push(`${name}: ${error.message}`);
  }
}
console.log(JSON.stringify(wrong));
