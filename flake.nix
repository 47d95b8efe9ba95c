# The lock file of this flake is made by `nix flake lock` on a machine that
# reaches the flake inputs.
{
  description = "Toolcrib serves MCP tools from Git: the catalog follows the committed revision";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs =
    { self, nixpkgs }:
    let
      systems = [
        "x86_64-linux"
        "aarch64-linux"
        "x86_64-darwin"
        "aarch64-darwin"
      ];
      forAll = make: nixpkgs.lib.genAttrs systems (system: make nixpkgs.legacyPackages.${system});
      manifest = (builtins.fromTOML (builtins.readFile ./Cargo.toml)).package;

      toolcrib =
        pkgs:
        pkgs.rustPlatform.buildRustPackage {
          pname = manifest.name;
          version = manifest.version;
          src = self;
          cargoLock.lockFile = ./Cargo.lock;
          buildType = "dist";
          # OpenSSL and libgit2 are compiled from source.
          nativeBuildInputs = [
            pkgs.perl
            pkgs.pkg-config
          ];
          # Tests run in checks.test.
          doCheck = false;
          meta = {
            description = manifest.description;
            license = pkgs.lib.licenses.asl20;
            mainProgram = manifest.name;
          };
        };

      # The same build with another command instead of `cargo build`.
      cargo =
        pkgs: name: tools: command:
        (toolcrib pkgs).overrideAttrs (old: {
          pname = "toolcrib-${name}";
          nativeBuildInputs = old.nativeBuildInputs ++ tools;
          buildPhase = command;
          installPhase = "touch $out";
        });
    in
    {
      packages = forAll (pkgs: {
        default = toolcrib pkgs;
      });

      apps = forAll (pkgs: {
        default = {
          type = "app";
          program = "${toolcrib pkgs}/bin/${manifest.name}";
        };
      });

      # What needs a container engine runs by tests/run, outside the sandbox.
      checks = forAll (pkgs: {
        fmt = cargo pkgs "fmt" [ pkgs.rustfmt ] "cargo fmt --check";
        clippy =
          cargo pkgs "clippy" [ pkgs.clippy ]
            "cargo clippy --release --all-targets --locked -- -D warnings";
        test = cargo pkgs "test" [ pkgs.git pkgs.openssh ] "cargo test --release --locked";
      });

      devShells = forAll (pkgs: {
        default = pkgs.mkShell {
          inputsFrom = [ (toolcrib pkgs) ];
          packages = [
            pkgs.clippy
            pkgs.git
            pkgs.just
            pkgs.rust-analyzer
            pkgs.rustfmt
          ];
        };
      });
    };
}
