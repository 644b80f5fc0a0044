package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	adminv1 "gatehouse.dev/gatehouse/proto/gatehouse/admin/v1"
)

// followEvery is how often --follow looks for new records.
const followEvery = time.Second

func newAudit(p *program) *cobra.Command {
	var since, until string
	var follow bool
	out, query := &output{}, &adminv1.ListEventsRequest{}
	c := out.flag(&cobra.Command{
		Use:   "audit",
		Short: "Show who did what, when, from where, and what became of it",
		Long: `Shows the audit log: logins, grants, tokens, refusals, revocations, administration
and keys, the oldest first. --event takes an event (user.update) or a family of
them (user). Times are a duration back from now (24h) or RFC 3339.` + howAdministered,
		Example: `  gatehouse audit --since 24h --event login --result failure
  gatehouse audit --client robot --json --follow
  gatehouse audit verify`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if query.Since, err = moment("--since", since); err != nil {
				return err
			}
			if query.Until, err = moment("--until", until); err != nil {
				return err
			}
			if r := query.GetResult(); r != "" && !slices.Contains(results, r) {
				return usage(fmt.Sprintf("--result %q is none: write %s", r, strings.Join(results, ", ")))
			}
			return p.administer(cmd, func(ctx context.Context, admin adminv1.AdminClient) error {
				if err := subjectByLogin(ctx, admin, query); err != nil {
					return err
				}
				return showEvents(ctx, cmd, admin, query, out, follow)
			})
		},
	})
	f := c.Flags()
	f.StringVar(&since, "since", "", "from when on")
	f.StringVar(&until, "until", "", "until when")
	f.StringVar(&query.Subject, "subject", "", "only what concerns this user, by login or, where the user is gone, by id")
	f.StringVar(&query.Client, "client", "", "only what concerns this client")
	f.StringVar(&query.Event, "event", "", "only this event, or family of events")
	f.StringVar(&query.Result, "result", "", "only success, failure or throttled")
	f.BoolVar(&follow, "follow", false, "go on with what comes")
	c.AddCommand(newAuditVerify(p))
	return c
}

var results = []string{"success", "failure", "throttled"}

// subjectByLogin puts the id of a user into a query that names the login.
func subjectByLogin(ctx context.Context, admin adminv1.AdminClient, query *adminv1.ListEventsRequest) error {
	if query.GetSubject() == "" {
		return nil
	}
	found, err := admin.GetUser(ctx, &adminv1.GetUserRequest{Login: query.GetSubject()})
	switch status.Code(err) {
	case codes.OK:
		query.Subject = found.GetUser().GetId()
	case codes.NotFound, codes.InvalidArgument: // an id, of somebody who may be gone
	default:
		return err
	}
	return nil
}

// moment reads a time as people type it; empty: none.
func moment(flag, typed string) (*timestamppb.Timestamp, error) {
	if typed == "" {
		return nil, nil
	}
	if back, err := time.ParseDuration(typed); err == nil && back >= 0 {
		return timestamppb.New(time.Now().Add(-back)), nil
	}
	at, err := time.Parse(time.RFC3339, typed)
	if err != nil {
		return nil, usage(fmt.Sprintf("%s %q is no time: write 24h, or 2026-01-31T12:00:00Z", flag, typed))
	}
	return timestamppb.New(at), nil
}

func showEvents(ctx context.Context, cmd *cobra.Command, admin adminv1.AdminClient, query *adminv1.ListEventsRequest, out *output, follow bool) error {
	for any := false; ; {
		answer, err := admin.ListEvents(ctx, query)
		if err != nil {
			return err
		}
		for _, e := range answer.GetEvents() {
			if err := showEvent(cmd, e, out); err != nil {
				return err
			}
		}
		any = any || len(answer.GetEvents()) > 0
		query.After = answer.GetNext()
		if answer.GetMore() {
			continue
		}
		if !follow {
			if !any {
				fmt.Fprintln(cmd.ErrOrStderr(), "There is no such record.")
			}
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(followEvery):
		}
	}
}

// showEvent writes a record in one line: the log is read as it comes, so there
// are no columns to align.
func showEvent(cmd *cobra.Command, e *adminv1.Event, out *output) error {
	if out.json {
		return writeJSON(cmd.OutOrStdout(), e)
	}
	parts := []string{strconv.FormatUint(e.GetSequence(), 10), e.GetTime().AsTime().UTC().Format("2006-01-02T15:04:05.000Z"), e.GetEvent(), e.GetResult()}
	for _, pair := range [][2]string{
		{"actor", e.GetActor()}, {"subject", e.GetSubject()}, {"client", e.GetClient()}, {"address", e.GetAddress()},
		{"session", e.GetSession()}, {"grant", e.GetGrant()}, {"reason", e.GetReason()}, {"detail", e.GetDetail()},
	} {
		if pair[1] != "" {
			parts = append(parts, pair[0]+"="+strconv.Quote(pair[1]))
		}
	}
	_, err := fmt.Fprintln(cmd.OutOrStdout(), strings.Join(parts, " "))
	return err
}

func newAuditVerify(p *program) *cobra.Command {
	var head string
	c := &cobra.Command{
		Use:   "verify",
		Short: "Check that nobody changed the audit log",
		Long: `Checks the seal of every record: each covers the one before, under a key that is
derived from issuer.key_encryption_key and is not in the database. It prints the
head, SEQUENCE:SEAL. Keep one elsewhere, and give it to --head later on: then it
also shows when the log was cut off and grown anew.` + howAdministered,
		Example: `  gatehouse audit verify
  gatehouse audit verify --head 4711:9f2c…`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			sequence, seal, err := parseHead(head)
			if err != nil {
				return err
			}
			return p.administer(cmd, func(ctx context.Context, admin adminv1.AdminClient) error {
				return verifyEvents(ctx, cmd, admin, sequence, seal)
			})
		},
	}
	c.Flags().StringVar(&head, "head", "", "a head that was noted before: the log must go on from it")
	return c
}

func parseHead(head string) (sequence uint64, seal []byte, err error) {
	if head == "" {
		return 0, nil, nil
	}
	number, digits, _ := strings.Cut(head, ":")
	sequence, err = strconv.ParseUint(number, 10, 64)
	if err == nil {
		seal, err = hex.DecodeString(digits)
	}
	if err != nil || len(seal) != 32 {
		return 0, nil, usage(fmt.Sprintf("--head %q is none: write SEQUENCE:SEAL as `gatehouse audit verify` prints it", head))
	}
	return sequence, seal, nil
}

func verifyEvents(ctx context.Context, cmd *cobra.Command, admin adminv1.AdminClient, sequence uint64, seal []byte) error {
	request := &adminv1.VerifyEventsRequest{Sequence: sequence, Seal: seal}
	for {
		answer, err := admin.VerifyEvents(ctx, request)
		if err != nil {
			return err
		}
		if !answer.GetMore() {
			fmt.Fprintf(cmd.OutOrStdout(), "every seal holds\nhead %d:%x\n", answer.GetSequence(), answer.GetSeal())
			return nil
		}
		request.Sequence, request.Seal = answer.GetSequence(), answer.GetSeal()
	}
}
