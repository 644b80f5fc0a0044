package app

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"gatehouse.dev/gatehouse/internal/conf"
	"gatehouse.dev/gatehouse/internal/whole"
	adminv1 "gatehouse.dev/gatehouse/proto/gatehouse/admin/v1"
)

// The sample's accounts.
const (
	sampleRobot = "robot"
	sampleCLI   = "cli"
	sampleUser  = "alice"
)

var sampleUsers = []*adminv1.User{
	{Login: sampleUser, Name: "Alice Customer", Email: "alice@example.com", Roles: []string{"customer"}},
	{Login: "bob", Name: "Bob Approver", Email: "bob@example.com", Roles: []string{"customer", "approver"}},
}

var sampleClients = []*adminv1.Client{
	{
		Id: sampleRobot, Name: "A program", Type: adminv1.ClientType_CLIENT_TYPE_CONFIDENTIAL,
		GrantTypes: []string{"client_credentials"}, Scopes: []string{"read:orders", "write:orders", "read:profile"},
	},
	{
		Id: sampleCLI, Name: "gatehouse token login", Type: adminv1.ClientType_CLIENT_TYPE_NATIVE,
		GrantTypes:   []string{"authorization_code", "refresh_token"},
		RedirectUris: []string{"http://127.0.0.1/callback"},
		Scopes:       []string{"openid", "profile", "offline_access", "read:orders", "write:orders", "read:profile"},
	},
}

// sampleSecret is the file that a sample account's password or secret is in.
func (c *Config) sampleSecret(name string) conf.Path { return c.data("sample", name) }

// sampleAccounts makes the sample's users and clients where they are missing.
// Their secrets are kept in 0600 files: found again at the next start, and made
// anew when they are gone.
func sampleAccounts(ctx context.Context, c *Config) error {
	return Administer(ctx, c, func(ctx context.Context, admin adminv1.AdminClient) error {
		for _, user := range sampleUsers {
			if err := c.sampleUser(ctx, admin, user); err != nil {
				return fmt.Errorf("making the sample user %s: %w", user.GetLogin(), err)
			}
		}
		for _, client := range sampleClients {
			if err := c.sampleClient(ctx, admin, client); err != nil {
				return fmt.Errorf("making the sample client %s: %w", client.GetId(), err)
			}
		}
		return nil
	})
}

func (c *Config) sampleUser(ctx context.Context, admin adminv1.AdminClient, user *adminv1.User) error {
	file := string(c.sampleSecret(user.GetLogin() + ".password"))
	_, missing := os.Stat(file)
	if err := keepSecret(file, func() ([]byte, error) { return []byte(rand.Text() + "\n"), nil }); err != nil {
		return err
	}
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	password := strings.TrimSpace(string(content))
	_, err = admin.CreateUser(ctx, &adminv1.CreateUserRequest{User: user, Password: password})
	if status.Code(err) == codes.AlreadyExists && missing != nil {
		_, err = admin.SetUserPassword(ctx, &adminv1.SetUserPasswordRequest{Login: user.GetLogin(), Password: password})
	}
	return unlessThere(err)
}

func (c *Config) sampleClient(ctx context.Context, admin adminv1.AdminClient, client *adminv1.Client) error {
	file := string(c.sampleSecret(client.GetId() + ".secret"))
	made, err := admin.CreateClient(ctx, &adminv1.CreateClientRequest{Client: client})
	secret := made.GetSecret()
	if _, missing := os.Stat(file); status.Code(err) == codes.AlreadyExists && missing != nil && client.GetType() == adminv1.ClientType_CLIENT_TYPE_CONFIDENTIAL {
		var rotated *adminv1.RotateClientSecretResponse
		rotated, err = admin.RotateClientSecret(ctx, &adminv1.RotateClientSecretRequest{Id: client.GetId()})
		secret = rotated.GetSecret()
	}
	if err := unlessThere(err); err != nil || secret == "" {
		return err
	}
	return whole.WriteFile(file, []byte(secret+"\n"), 0o600)
}

func unlessThere(err error) error {
	if status.Code(err) == codes.AlreadyExists {
		return nil
	}
	return err
}
