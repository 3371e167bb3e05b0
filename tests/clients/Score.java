import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;

/** Score a row with Java's own client, which asks for HTTP/2 first. Usage: java Score.java URL KEY */
class Score {
    public static void main(String[] arguments) throws Exception {
        HttpClient client = HttpClient.newHttpClient();
        HttpRequest request = HttpRequest.newBuilder(URI.create(arguments[0] + "/score"))
                .header("Content-Type", "application/json")
                .header("Authorization", "Bearer " + arguments[1])
                .POST(HttpRequest.BodyPublishers.ofString("{\"instances\": [[1, 2, 30]]}"))
                .build();
        HttpResponse<String> answer = null;
        for (int time = 0; time < 3; time++) { // the later ones come on the same connection
            answer = client.send(request, HttpResponse.BodyHandlers.ofString());
            if (answer.statusCode() != 200) {
                throw new IllegalStateException(answer.statusCode() + ": " + answer.body());
            }
        }
        System.out.println(answer.body());
    }
}
