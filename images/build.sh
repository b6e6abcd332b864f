#!/bin/sh
# Builds SanFran's images with whichever engine is here: docker, podman or buildah.
# Usage: images/build.sh [name...]      (all five without names)
#   REGISTRY   before the names, such as registry.example.com/team; none: local names
#   TAG        default: the version in pyproject.toml, which is the chart's too
#   ENGINE     docker, podman, buildah or minikube; default: the first that works
#   BUILD_ARGS further arguments of the engine's build, such as --build-arg PYTHON_IMAGE=...
set -eu
cd "$(dirname "$0")/.."

works() {
	case $1 in
	docker) docker info ;;
	podman) podman info ;;
	buildah) buildah info ;;
	esac >/dev/null 2>&1
}

if [ -z "${ENGINE:-}" ]; then
	for candidate in docker podman buildah; do
		if works "$candidate"; then
			ENGINE=$candidate
			break
		fi
	done
fi
if [ -z "${ENGINE:-}" ]; then
	echo "images: none of docker, podman and buildah works here." >&2
	echo "Install one (or start the Docker engine: docker info says what is wrong), or name it: ENGINE=podman make images" >&2
	exit 1
fi

VERSION=$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)
TAG=${TAG:-$VERSION}
REVISION=$(git rev-parse HEAD 2>/dev/null || echo unknown)
for name in ${*:-router controller api sidecar runtime}; do
	image=${REGISTRY:+$REGISTRY/}sanfran-$name:$TAG
	file=images/$name/Dockerfile
	test -f "$file" || { echo "images: there is no $file" >&2; exit 1; }
	echo "building $image with $ENGINE"
	# BUILD_ARGS is split on purpose: it holds several arguments.
	case $ENGINE in
	docker | podman)
		"$ENGINE" build -t "$image" -f "$file" --build-arg "VERSION=$VERSION" \
			--build-arg "REVISION=$REVISION" ${BUILD_ARGS:-} .
		;;
	buildah)
		buildah build --layers -t "$image" -f "$file" --build-arg "VERSION=$VERSION" \
			--build-arg "REVISION=$REVISION" ${BUILD_ARGS:-} .
		;;
	minikube)
		minikube image build -t "$image" -f "$file" --build-opt "build-arg=VERSION=$VERSION" \
			--build-opt "build-arg=REVISION=$REVISION" ${BUILD_ARGS:-} .
		;;
	*)
		echo "images: ENGINE is '$ENGINE'; try docker, podman, buildah or minikube" >&2
		exit 1
		;;
	esac
done
