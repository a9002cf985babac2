// Native-registry serves one of two independent in-memory registries that answer the referrers API, so that the interop
// run talks to servers of other projects:
//
//   - "cuelabs" answers a push with OCI-Subject, as the distribution specification v1.1 asks;
//   - "ggcr" lists referrers but does not send OCI-Subject, so clients must maintain the referrers tag
//     too, and gives every entry the media type of its config as artifactType.
//
// It prints "listening on ADDRESS" to standard output once it accepts connections.
package main

import (
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"time"

	"cuelabs.dev/go/oci/ociregistry/ocimem"
	"cuelabs.dev/go/oci/ociregistry/ociserver"
	"github.com/google/go-containerregistry/pkg/registry"
)

func main() {
	implementation := flag.String("implementation", "cuelabs", "whose registry to serve: cuelabs or ggcr")
	address := flag.String("address", "127.0.0.1:0", "loopback address to listen on; port 0 picks a free one")
	flag.Parse()

	handler, err := newHandler(*implementation)
	if err != nil {
		log.Fatal(err)
	}
	tcp, err := net.ResolveTCPAddr("tcp", *address)
	if err != nil {
		log.Fatal(err)
	}
	if !tcp.IP.IsLoopback() {
		log.Fatalf("%s is not a loopback address, and this registry knows no access control", *address)
	}
	listener, err := net.ListenTCP("tcp", tcp)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("listening on %s\n", listener.Addr())
	server := &http.Server{Handler: logged(handler), ReadHeaderTimeout: 10 * time.Second}
	log.Fatal(server.Serve(listener))
}

func newHandler(implementation string) (http.Handler, error) {
	switch implementation {
	case "cuelabs":
		return ociserver.New(ocimem.New(), nil), nil
	case "ggcr":
		// The log of the registry repeats every request without the status.
		quiet := log.New(io.Discard, "", 0)
		return registry.New(registry.WithReferrersSupport(true), registry.Logger(quiet)), nil
	default:
		return nil, fmt.Errorf("unknown implementation %q: cuelabs or ggcr", implementation)
	}
}

// logged writes one line for each request to standard error, to examine a failed run with.
func logged(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen := &statusWriter{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(seen, r)
		log.Printf("%d %s %s", seen.status, r.Method, r.URL.Path)
	})
}

type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}
