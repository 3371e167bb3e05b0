<?php
// Score a row with PHP's own streams. Usage: php score.php URL KEY
[, $url, $key] = $argv;
$context = stream_context_create(["http" => [
    "method" => "POST",
    "header" => ["Content-Type: application/json", "X-API-Key: $key"],
    "content" => json_encode(["instances" => [[1, 2, 30]]]),
]]);
$answer = file_get_contents("$url/score", false, $context);
if ($answer === false) {
    exit(1);
}
echo $answer;
