// Score a row with Node's own fetch. Usage: node score.mjs URL KEY
const [url, key] = process.argv.slice(2);
const answer = await fetch(`${url}/score`, {
  method: "POST",
  headers: {"Content-Type": "application/json", Authorization: `Bearer ${key}`},
  body: JSON.stringify({instances: [[1, 2, 30]]}),
});
if (!answer.ok) throw new Error(await answer.text());
console.log(JSON.stringify(await answer.json()));
