// Mercure's hub behind Go's own HTTP server. Arguments: port, the publisher's HMAC key.
package main

import (
	"log"
	"net/http"
	"os"

	"github.com/dunglas/mercure"
	"go.uber.org/zap"
)

func main() {
	hub, err := mercure.NewHub(
		mercure.WithPublisherJWT([]byte(os.Args[2]), "HS256"),
		mercure.WithAnonymous(),
		mercure.WithWriteTimeout(0),
		mercure.WithLogger(zap.NewNop()),
	)
	if err != nil {
		log.Fatal(err)
	}
	http.Handle("/.well-known/mercure", hub)
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Args[1], nil))
}
