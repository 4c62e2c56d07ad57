#!/usr/bin/env bash
# Installs the Debian packages that the tests, the demonstration and the benchmarks need, and only
# those that are missing. Their services are left stopped; those that were there are left alone.
set -euo pipefail

missing=()
need() { # PACKAGE PATH...: the package is there when one of the paths is
    local package=$1 path
    shift
    for path in "$@"; do
        if [[ -e $path ]]; then return; fi
    done
    missing+=("$package")
}

need orthanc /usr/sbin/Orthanc
need orthanc-dicomweb /usr/share/orthanc/plugins/libOrthancDicomWeb.so
need dcmtk /usr/bin/dcmqrscp
need nginx-light /usr/sbin/nginx
need rsyslog /usr/sbin/rsyslogd
need rsyslog-gnutls /usr/lib/*/rsyslog/lmnsd_gtls.so
need libgdcm-tools /usr/bin/gdcmconv
need dicom3tools /usr/bin/dciodvfy
need pebble /usr/bin/pebble
need nodejs /usr/bin/node
need npm /usr/bin/npm
need build-essential /usr/bin/cc
need cmake /usr/bin/cmake
need curl /usr/bin/curl
need openssl /usr/bin/openssl
need python3-venv /usr/lib/python3*/ensurepip/__init__.py
need chromium /usr/bin/chromium
need fonts-dejavu-core /usr/share/fonts/truetype/dejavu/DejaVuSans.ttf
need util-linux /usr/bin/setpriv
need strace /usr/bin/strace

if ((${#missing[@]})); then
    if ((EUID == 0)); then
        as_root=()
    elif command -v sudo >/dev/null; then
        as_root=(sudo)
    else
        echo "These packages are missing; install them as root: apt-get install ${missing[*]}" >&2
        exit 1
    fi
    if ! command -v apt-get >/dev/null; then
        echo "This is not Debian. Install what corresponds to: ${missing[*]}" >&2
        exit 1
    fi
    echo "Installing ${missing[*]}"

    # No service is started by its installation (the policy of Debian for invoke-rc.d).
    policy=/usr/sbin/policy-rc.d
    if [[ ! -e $policy ]]; then
        printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
        "${as_root[@]}" chmod 755 "$policy"
        trap '"${as_root[@]}" rm -f "$policy"' EXIT
    fi
    log=$(mktemp)
    install() {
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
            apt-get install -y --no-install-recommends "${missing[@]}" >"$log" 2>&1
    }
    # The lists of packages may be absent or too old.
    if ! install && ! { "${as_root[@]}" apt-get update >>"$log" 2>&1 && install; }; then
        tail -n 20 "$log" >&2
        exit 1
    fi
    rm -f "$log"

    for package in "${missing[@]}"; do
        case $package in
            orthanc) service=orthanc ;;
            nginx-light) service=nginx ;;
            rsyslog) service=rsyslog ;;
            *) continue ;;
        esac
        if [[ -d /run/systemd/system ]]; then
            "${as_root[@]}" systemctl disable --now --quiet "$service" || true
        elif command -v update-rc.d >/dev/null; then
            "${as_root[@]}" update-rc.d "$service" disable >/dev/null 2>&1 || true
        fi
    done
fi

if ! command -v cargo >/dev/null; then
    echo "cargo is missing: install Rust from https://rustup.rs, then run this again" >&2
    exit 1
fi
