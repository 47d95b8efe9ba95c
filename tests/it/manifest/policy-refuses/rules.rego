package crib.tools
