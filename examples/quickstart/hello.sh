#!/bin/sh
# Usage: hello.sh [-l LANGUAGE] -- NAME
set -eu

greeting=Hello
while getopts l: option; do
    case "$option$OPTARG" in
        lde) greeting=Hallo ;;
        lfr) greeting=Bonjour ;;
    esac
done
shift $((OPTIND - 1))

echo "$greeting, $1!"
