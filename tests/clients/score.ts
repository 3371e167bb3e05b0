// Score a row with the types of openapi-typescript. Usage: node score.js URL KEY, after tsc --strict.
import type {components, paths} from "./residual";

type Operation = paths["/models/{name}/score"]["post"];
type Request = Operation["requestBody"]["content"]["application/json"];
type Scores = Operation["responses"][200]["content"]["application/json"];
type Problem = components["schemas"]["Problem"];

async function main([url, key]: string[]): Promise<void> {
  const request: Request = {instances: [[1, 2, 30]], explain: 1};
  const answer = await fetch(`${url}/models/tiny/score`, {
    method: "POST",
    headers: {"Content-Type": "application/json", "X-API-Key": key},
    body: JSON.stringify(request),
  });
  if (!answer.ok) throw new Error(((await answer.json()) as Problem).detail);
  const scores = (await answer.json()) as Scores;
  const [first]: (number | null)[] = scores.score; // null: a step of a series without a score
  const decided: boolean | null = scores.is_anomaly[0];
  console.log(JSON.stringify({score: [first], is_anomaly: [decided], model: scores.model}));
}

declare const process: {argv: string[]};
main(process.argv.slice(2));
