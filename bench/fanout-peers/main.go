// A server on the centrifuge library, for bench/fanout: its handler of server-sent events, one channel for each stream, and
// publications by POST. What a stream missed can be recovered, as with paylog and nchan: the last 100 of a channel are
// kept for a minute.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/centrifugal/centrifuge"
)

const (
	historySize = 100
	historyTTL  = time.Minute
	// As it is where nothing else is said; without an answer to it, which would be another request.
	pingEvery = 25 * time.Second
)

type channelKey struct{}

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	node, err := centrifuge.New(centrifuge.Config{})
	if err != nil {
		return err
	}
	node.OnConnecting(func(ctx context.Context, _ centrifuge.ConnectEvent) (centrifuge.ConnectReply, error) {
		channel, _ := ctx.Value(channelKey{}).(string)
		return centrifuge.ConnectReply{
			Credentials:   &centrifuge.Credentials{},
			Subscriptions: map[string]centrifuge.SubscribeOptions{channel: {EnableRecovery: true}},
		}, nil
	})
	if err := node.Run(); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Printf("listening on http://%s\n", listener.Addr())
	return http.Serve(listener, routes(node))
}

func routes(node *centrifuge.Node) http.Handler {
	ping := centrifuge.PingPongConfig{PingInterval: pingEvery, PongTimeout: -1}
	streams := centrifuge.NewSSEHandler(node, centrifuge.SSEConfig{PingPongConfig: ping})
	connect := url.Values{"cf_connect": {`{"id":1,"connect":{}}`}}.Encode()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /sub/{channel}", func(w http.ResponseWriter, r *http.Request) {
		r = r.WithContext(context.WithValue(r.Context(), channelKey{}, r.PathValue("channel")))
		r.URL.RawQuery = connect
		streams.ServeHTTP(w, r)
	})
	mux.HandleFunc("POST /pub/{channel}", func(w http.ResponseWriter, r *http.Request) {
		data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 64<<10))
		if err == nil {
			_, err = node.Publish(r.PathValue("channel"), data, centrifuge.WithHistory(historySize, historyTTL))
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.WriteHeader(http.StatusAccepted)
	})
	return mux
}
