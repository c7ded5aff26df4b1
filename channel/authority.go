package channel

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/warpket/warpket"
)

// serverName is what the certificate of every server is made out to: a node
// trusts the cluster's authority, whatever address it has dialled.
const serverName = "server.warpket.internal"

const (
	authorityLife   = 20 * 365 * 24 * time.Hour
	certificateLife = 5 * 365 * 24 * time.Hour
)

// Authority signs the certificates of the node channel: one for a cluster.
type Authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// NewAuthority makes the certificate and the key of an authority, as DER.
func NewAuthority() (certificate, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "warpket node channel"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(authorityLife),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	certificate, err = x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return nil, nil, err
	}
	key, err = x509.MarshalPKCS8PrivateKey(private)
	return certificate, key, err
}

// LoadAuthority reads what NewAuthority made.
func LoadAuthority(certificate, key []byte) (*Authority, error) {
	c, err := x509.ParseCertificate(certificate)
	if err != nil {
		return nil, fmt.Errorf("reading the authority's certificate: %w", err)
	}
	k, err := x509.ParsePKCS8PrivateKey(key)
	private, ok := k.(*ecdsa.PrivateKey)
	if err != nil || !ok {
		return nil, fmt.Errorf("reading the authority's key: %w", err)
	}
	return &Authority{c, private}, nil
}

// Fingerprint is by which a joining node knows the authority.
func (a *Authority) Fingerprint() string { return fingerprint(a.certificate.Raw) }

func fingerprint(certificate []byte) string {
	h := sha256.Sum256(certificate)
	return hex.EncodeToString(h[:])
}

// sign makes a certificate for a public key. Only servers get one made out to
// serverName, so no node can pass for a server.
func (a *Authority) sign(name string, public crypto.PublicKey, usage ...x509.ExtKeyUsage) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	return x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(certificateLife),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: usage,
	}, a.certificate, public, a.key)
}

// serverTLS is the TLS configuration of a server, for nodes and for other
// servers, at both ends. Client certificates are asked for, and required by
// every call but Join.
func (a *Authority) serverTLS() (*tls.Config, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := a.sign(serverName, key.Public(), x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AddCert(a.certificate)
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{{Certificate: [][]byte{der, a.certificate.Raw}, PrivateKey: key}},
		ClientAuth:   tls.VerifyClientCertIfGiven,
		ClientCAs:    roots,
		RootCAs:      roots,
		ServerName:   serverName,
	}, nil
}

// joinTLS is the TLS configuration of a node that knows only the fingerprint
// of the authority. It gives the authority's certificate to learned.
func joinTLS(want string, learned func([]byte)) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		ServerName: serverName,
		// The usual check knows no such authority; VerifyConnection is stricter.
		InsecureSkipVerify: true, //nolint:gosec // see VerifyConnection
		VerifyConnection: func(state tls.ConnectionState) error {
			i := slices.IndexFunc(state.PeerCertificates, func(c *x509.Certificate) bool { return fingerprint(c.Raw) == want })
			if i < 0 {
				return warpket.Errorf(warpket.Denied, "this is not the server that made the token: its authority is another")
			}
			roots := x509.NewCertPool()
			roots.AddCert(state.PeerCertificates[i])
			_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots, DNSName: serverName})
			if err == nil {
				learned(state.PeerCertificates[i].Raw)
			}
			return err
		},
	}
}

// JoinToken is the text of a one-time token for a node. It carries the
// authority's fingerprint, so that the node knows whom it joins.
func (a *Authority) JoinToken(id warpket.ID, secret string) string {
	return "wkn_" + strings.ReplaceAll(string(id), "-", "") + "_" + secret + "_" + a.Fingerprint()
}

// ParseJoinToken splits the text of a node token.
func ParseJoinToken(text string) (id warpket.ID, secret, authority string, err error) {
	parts := strings.Split(text, "_")
	if len(parts) == 4 && parts[0] == "wkn" && len(parts[3]) == 64 {
		if id, secret, err = warpket.ParseToken("wk_" + parts[1] + "_" + parts[2]); err == nil {
			return id, secret, parts[3], nil
		}
	}
	return "", "", "", warpket.Errorf(warpket.Unauthenticated, "this is no node token: an operator gets one by POST /v1/nodes/tokens; it begins with wkn_")
}
