package channel

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"os"

	"github.com/google/renameio/v2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/warpket/warpket"
	"github.com/warpket/warpket/channel/wire"
)

// Identity is by what a node is known on the channel.
type Identity struct {
	NodeID      warpket.ID `json:"nodeId"`
	Certificate []byte     `json:"certificate"` // DER, as all of these
	Key         []byte     `json:"key"`
	Authority   []byte     `json:"authority"`
}

// Join spends a one-time token at a server on an identity.
func Join(ctx context.Context, address, token, name string) (Identity, error) {
	_, _, want, err := ParseJoinToken(token)
	if err != nil {
		return Identity{}, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Identity{}, err
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return Identity{}, err
	}
	id := Identity{}
	if id.Key, err = x509.MarshalPKCS8PrivateKey(key); err != nil {
		return Identity{}, err
	}
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(credentials.NewTLS(joinTLS(want, func(ca []byte) { id.Authority = ca }))))
	if err != nil {
		return Identity{}, fmt.Errorf("joining at %s: %w", address, err)
	}
	defer func() { _ = conn.Close() }()
	reply, err := wire.NewChannelClient(conn).Join(ctx, &wire.JoinRequest{Token: token, Name: name, PublicKey: public}, grpc.WaitForReady(true))
	if err != nil {
		return Identity{}, fmt.Errorf("joining at %s: %w", address, explain(err))
	}
	id.NodeID, id.Certificate = warpket.ID(reply.GetNodeId()), reply.GetCertificate()
	return id, nil
}

// explain makes the error of a call one that people can read.
func explain(err error) error {
	s, _ := status.FromError(err)
	switch s.Code() {
	case codes.PermissionDenied, codes.Unauthenticated:
		return warpket.Errorf(warpket.Denied, "%s", s.Message())
	case codes.InvalidArgument, codes.FailedPrecondition:
		return warpket.Errorf(warpket.Invalid, "%s", s.Message())
	default:
	}
	return warpket.Because(warpket.Unavailable, err, "the server does not answer")
}

// Save keeps the identity in a file that only its owner can read.
func (id Identity) Save(file string) error {
	b, err := json.Marshal(id)
	if err != nil {
		return err
	}
	return renameio.WriteFile(file, b, 0o600)
}

// LoadIdentity reads what Save has written.
func LoadIdentity(file string) (id Identity, err error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return id, err
	}
	if err := json.Unmarshal(b, &id); err != nil {
		return id, fmt.Errorf("reading the node's identity from %s: %w", file, err)
	}
	return id, nil
}

func (id Identity) tls() (*tls.Config, error) {
	key, err := x509.ParsePKCS8PrivateKey(id.Key)
	if err != nil {
		return nil, fmt.Errorf("reading the node's key: %w", err)
	}
	authority, err := x509.ParseCertificate(id.Authority)
	if err != nil {
		return nil, fmt.Errorf("reading the authority's certificate: %w", err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(authority)
	return &tls.Config{
		MinVersion: tls.VersionTLS13, ServerName: serverName, RootCAs: roots,
		Certificates: []tls.Certificate{{Certificate: [][]byte{id.Certificate}, PrivateKey: key}},
	}, nil
}
