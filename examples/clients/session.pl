# Perl with DBD::Pg:  DATABASE_URL=postgresql://acme_app:PASSWORD@HOST:5432/DATABASE perl session.pl
use v5.36;
use DBI;
use JSON::PP;

my ($OWNER, $READER, $STRANGER) = map { "$_:shop:production:abc123" } qw(acme:mcp-1 acme:mcp-2 globex:mcp-1);
my ($NOT_AUTHORIZED, $MODEL_NOT_FOUND, $VERSION_CONFLICT) = qw(TN003 TN101 TN102);

my ($user, $password, $server, $database, $options) = map { s/%(..)/chr hex $1/egr }
    $ENV{DATABASE_URL} =~ m{^\w+://(.+?):(.*)@(.+)/(\w+)\??(.*)} or die "DATABASE_URL is not of that form\n";
$server =~ s/:/;port=/;
my $db = DBI->connect("dbi:Pg:host=$server;dbname=$database;" . $options =~ tr/&/;/r, $user, $password,
    { RaiseError => 1, PrintError => 0, AutoCommit => 1 });

sub call ($sql, @values) {
    return $db->selectall_arrayref($sql, { Slice => {} }, @values)->@*;
}

# Save the model, and return its new version. expected: the version it was made from. owner: whose model it is.
sub save ($tenant, $mse, $accuracy, %given) {
    my ($saved) = call(
        q{select version from ai_storage.save_progress('classifier', ?, p_metrics => ?,
            p_expected_version => ?, p_owner => ?, p_as => ?)},
        $mse, encode_json({ accuracy => $accuracy }), $given{expected}, $given{owner}, $tenant);
    return $saved->{version};
}

# The tenant's models and those shared with it.
sub load ($tenant) {
    return call(
        q{select model_name, version, mse, metrics->>'accuracy' as accuracy, owner_key
            from ai_storage.load_progress(p_as => ?)}, $tenant);
}

# Do what the database is to refuse, and return the SQLSTATE. Any other error goes on.
sub refused ($sqlstate, $work) {
    die "was not refused with $sqlstate\n" if eval { $work->(); 1 };
    return ($db->state // '') eq $sqlstate ? $sqlstate : die $@;
}

say 'saved classifier version ', save($OWNER, 0.31, 0.87);
say 'saved classifier version ', save($OWNER, 0.27, 0.91);
my ($model) = load($OWNER);
say "loaded $model->{model_name} version $model->{version}, mse $model->{mse}, accuracy $model->{accuracy}";
my $conflict = refused($VERSION_CONFLICT, sub { save($OWNER, 0.22, 0.94, expected => 1) });
($model) = load($OWNER);
my $version = save($OWNER, 0.22, 0.94, expected => $model->{version});
say "conflict $conflict: loaded version $model->{version} again, saved version $version";

my ($shared) = call("select target from ai_storage.share_model('classifier', ?, ?, p_as => ?)",
    encode_json([{ server_id => 'mcp-2' }]), ['read'], $OWNER);
say "shared with $shared->{target}";
($model) = load($READER);
say "mcp-2 loaded $model->{model_name} version $model->{version} of $model->{owner_key}";
say 'mcp-2 may not write it: ', refused($MODEL_NOT_FOUND, sub { save($READER, 0.2, 0.95, owner => $OWNER) });
say 'globex is not for this login: ', refused($NOT_AUTHORIZED, sub { load($STRANGER) });
my ($revoked) = call("select ai_storage.unshare_model('classifier', p_as => ?) as shares", $OWNER);
say "revoked $revoked->{shares} share";
say 'mcp-2 loaded ', scalar(my @models = load($READER)), ' models';
