// Score a row with Go's own client. Usage: go run score.go URL KEY
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
)

func main() {
	body := strings.NewReader(`{"instances": [[1, 2, 30]]}`)
	request, err := http.NewRequest("POST", os.Args[1]+"/score", body)
	if err != nil {
		panic(err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("X-API-Key", os.Args[2])
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		panic(err)
	}
	content, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != 200 {
		panic(answer.Status)
	}
	fmt.Println(string(content))
}
